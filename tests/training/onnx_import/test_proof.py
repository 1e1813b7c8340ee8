"""Faults planted in what is made of an ONNX file: the proof names the stage of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from tests.training.onnx_import.exported import LABELS, SIDE, Wrapped, export, tiny
from training.errors import OnnxImportError
from training.onnx_import.classifier_graph import classifier_graph
from training.onnx_import.interface import Interface, find_interface
from training.onnx_import.origin import Origin
from training.onnx_import.pictures import SamplePicture, make_pictures
from training.onnx_import.proof import OnnxProof, OnnxProver
from training.onnx_import.source import OnnxSource, read_source
from training.release.release import assemble, describe

PREPROCESSING = Preprocessing.usual((SIDE, SIDE, 3), 40, (0.5, 0.45, 0.4), (0.25, 0.2, 0.3), draft=False)


@dataclass(frozen=True)
class Import:
    """The steps of an import, some of which go wrong."""

    source: OnnxSource
    interface: Interface

    @classmethod
    def of(cls, file: Path) -> "Import":
        source = read_source(file)
        return cls(source, find_interface(source, layout=None, side=None, output=None, labels=len(LABELS)))

    def prove(
        self,
        *,
        told: Preprocessing = PREPROCESSING,
        made: Preprocessing = PREPROCESSING,
        served: Preprocessing = PREPROCESSING,
        bgr: bool = False,
        interface: Interface | None = None,
        edit: Callable[[bytes], bytes] = bytes,
        pictures: Sequence[SamplePicture] = (),
        **origin: bool,
    ) -> OnnxProof:
        """`told` is what the origin does, `made` what the graph is made for, `served` what a server is to do."""
        graph = classifier_graph(self.source, interface or self.interface, made, bgr=bgr)
        metadata = describe(
            architecture="tiny", arguments={}, labels=LABELS, preprocessing=served, metrics={}, recipe={}
        )
        artifact = assemble("theirs", 1, edit(graph.candidates[0].build()), metadata)
        way = replace(Origin.of(told, self.interface, bgr=False), **origin)
        prover = OnnxProver(self.source, self.interface, graph.ending, way, pictures or make_pictures(SIDE, SIDE))
        return prover.prove(artifact, load_engine(artifact))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Import:
    return Import.of(export(tiny(), tmp_path_factory.mktemp("net") / "net.onnx"))


def reshaped(model: bytes) -> bytes:
    """Bytes [h, w, c] taken for [c, h, w]: the first Transpose is a Reshape instead."""
    made = onnx.load_model_from_string(model)
    made.graph.node[0].CopyFrom(helper.make_node("Reshape", ["image", "front/shape"], ["front/planes"]))
    shape = np.array([-1, 3, SIDE, SIDE])
    made.graph.initializer.append(numpy_helper.from_array(shape, "front/shape"))
    return made.SerializeToString()


def test_a_sound_import_holds(sound: Import) -> None:
    proof = sound.prove()
    assert (proof.graph.same, proof.whole.same, proof.whole.pictures) == (64, 64, 64)
    assert proof.whole.distinct > 1


def test_channels_in_the_wrong_order_are_the_layout(sound: Import) -> None:
    with pytest.raises(OnnxImportError, match=r"stage layout: .* takes the channels in the order BGR"):
        sound.prove(bgr=True, made=replace(PREPROCESSING, mean=(0.4, 0.45, 0.5), std=(0.3, 0.2, 0.25)))


def test_a_wrong_mean_is_the_normalisation(sound: Import) -> None:
    with pytest.raises(OnnxImportError, match=r"stage normalise: .* mean 0.3,0.45,0.4 and deviation 0.25,0.2,0.3"):
        sound.prove(made=replace(PREPROCESSING, mean=(0.3, 0.45, 0.4)))


def test_an_origin_without_antialias_is_the_resize(sound: Import) -> None:
    with pytest.raises(OnnxImportError, match=r"stage resize: pixels differ"):
        sound.prove(antialias=False)


def test_bytes_that_are_not_transposed_are_the_layout(sound: Import) -> None:
    with pytest.raises(OnnxImportError, match=r"stage layout: .* reads the bytes of \[height, width, channels\] as if"):
        sound.prove(edit=reshaped)


def test_pictures_that_are_not_turned_upright_are_the_decoding(sound: Import) -> None:
    with pytest.raises(
        OnnxImportError, match=r"stage decode: .* does not turn pictures as their EXIF orientation asks"
    ):
        sound.prove(served=replace(PREPROCESSING, exif_transpose=False))


def test_grey_pictures_of_16_bits_keep_their_high_bytes_as_in_the_server(sound: Import) -> None:
    pictures = [_sixteen_bit(seed) for seed in range(64)]
    assert sound.prove(pictures=pictures).whole.same == 64
    with pytest.raises(OnnxImportError, match=r"stage decode: pixels differ"):
        sound.prove(pictures=pictures, high_bytes=False)


def _sixteen_bit(seed: int) -> SamplePicture:
    levels = np.random.default_rng(seed).integers(0, 1 << 16, (SIDE, SIDE), np.uint16)
    clear = {"transparency": int(levels[0, 0])} if seed % 2 else {}
    Image.fromarray(levels).save(stream := BytesIO(), "PNG", **clear)
    return SamplePicture(f"{seed}.png", stream.getvalue())


def test_probabilities_taken_for_logits_are_the_graph(tmp_path: Path) -> None:
    probable = Import.of(export(Wrapped(tiny(), behind=torch.nn.Softmax(1)), tmp_path / "net.onnx"))
    assert probable.prove().graph.same == 64
    with pytest.raises(OnnxImportError, match=r"stage graph: .* as if softmax were applied twice"):
        probable.prove(interface=replace(probable.interface, probabilities=False))


def test_other_weights_are_the_graph(sound: Import) -> None:
    def spoilt(model: bytes) -> bytes:
        made = onnx.load_model_from_string(model)
        weight = next(each for each in made.graph.initializer if each.name.endswith("head.weight"))
        weight.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(weight), weight.name))
        return made.SerializeToString()

    with pytest.raises(OnnxImportError, match=r"stage graph: in batches of 1 .* at most, and 0\.\d+ may be"):
        sound.prove(edit=spoilt)


def test_answers_that_are_no_numbers_are_the_files_own(tmp_path: Path) -> None:
    broken = Import.of(export(Wrapped(tiny(), behind=lambda logits: logits * torch.nan), tmp_path / "net.onnx"))
    with pytest.raises(OnnxImportError, match=r"for 64 of 64 pictures the file itself answers with what is no number"):
        broken.prove()
