"""The encoded images of one request, and where each of them stood in its body."""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from service.errors import BadRequest, ServiceError, TooLarge

Found = TypeVar("Found")

_MOST_SHOWN = 80  # characters of a name in an error


class Source(NamedTuple):
    """Where an image stood.

    Attributes:
        field: of a form.
        file: the name that its sender gave it.
        error: why no image could be taken from there.

    """

    field: str = ""
    file: str = ""
    error: ServiceError | None = None

    def judge(self, found: Found | ServiceError) -> Found | ServiceError:
        """What became of the image; an error names the form's field and its file."""
        error = self.error or found
        if not isinstance(error, ServiceError) or not self.field:
            return error
        file = f", file {self.file[:_MOST_SHOWN]!r}" if self.file else ""
        return type(error)(f"field {self.field[:_MOST_SHOWN]!r}{file}: {error}")


@dataclass(slots=True)
class Payload:
    """The images that a request's body holds, at most `max_images`.

    Attributes:
        several: a list of answers is asked for, in which an image may fail alone.
        are_pixels: they are not encoded, but uint8 [height, width, channels], each as bytes in row-major order.

    """

    max_images: int
    images: list[bytes] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    several: bool = False
    are_pixels: bool = False

    def add(self, image: bytes, source: Source) -> None:
        """Add the next image, empty if its source has an error; TooLarge if it is one too many."""
        if len(self.images) == self.max_images:
            raise too_many_images(self.max_images)
        if not image and source.error is None:
            source = source._replace(error=BadRequest("it is empty"))
        self.images.append(image)
        self.sources.append(source)

    @property
    def files(self) -> list[str] | None:
        """The names of several images, empty where one has none; None for a lone image."""
        return [source.file for source in self.sources] if self.several else None


def too_many_images(max_images: int) -> TooLarge:
    """The refusal of a request with more images than it may have."""
    return TooLarge(f"too many images in one request; at most {max_images} are taken")
