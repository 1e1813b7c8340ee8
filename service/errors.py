"""Every error that a client can receive.

ServiceError                     status  code
├── BadRequest                   400     bad_request
├── Unauthorized                 401     unauthorized
├── Forbidden                    403     forbidden
├── NotFound                     404     not_found
├── MethodNotAllowed             405     method_not_allowed
├── RequestTimeout               408     request_timeout
├── ChangeRefused                409     change_refused
├── TooLarge                     413     too_large
├── UnsupportedMediaType         415     unsupported_media_type
├── UnsupportedCoding            415     unsupported_coding
├── UndecodableImage             422     undecodable_image
├── TooManyRequests              429     too_many_requests
├── HeadersTooLarge              431     headers_too_large
├── InternalError                500     internal_error
├── NotImplementedHere           501     not_implemented
├── Unavailable                  503     (reason: full, draining, loading, worker_lost)
└── DeadlineExceeded             504     deadline_exceeded

An error knows its status, its stable code and the words that the client may read. `problem` is the one place that
turns any exception into an answer's content; what is not a ServiceError becomes a constant text.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from models.images.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage

ShedReason = Literal["full", "draining", "loading", "worker_lost"]
SHED_REASONS: tuple[ShedReason, ...] = ("full", "draining", "loading", "worker_lost")


class ServiceError(Exception):
    """An error that a client receives; its message is public. `key` names the API key that is the reason, if one is."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    key: str = ""

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP header fields that belong to this error."""
        return {}


class BadRequest(ServiceError):
    """The request itself is malformed: JSON, base64, multipart, a parameter."""

    status, code, title = 400, "bad_request", "Bad request"


class Unauthorized(ServiceError):
    """The request carries no key, or one that is not good (any more)."""

    status, code, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, message: str, *, is_wrong: bool = False) -> None:
        super().__init__(message)
        self.is_wrong = is_wrong

    @property
    def headers(self) -> Mapping[str, str]:
        """How to ask (RFC 6750, 3)."""
        error = ', error="invalid_token"' if self.is_wrong else ""
        return {"www-authenticate": f'Bearer realm="resnet-serve"{error}'}


class Forbidden(ServiceError):
    """The request's key, of this name, is good, but not for this."""

    status, code, title = 403, "forbidden", "Forbidden"

    def __init__(self, message: str, scope: str = "admin", key: str = "") -> None:
        super().__init__(message)
        self.scope, self.key = scope, key

    @property
    def headers(self) -> Mapping[str, str]:
        """Which scope is needed (RFC 6750, 3.1)."""
        return {"www-authenticate": f'Bearer realm="resnet-serve", error="insufficient_scope", scope="{self.scope}"'}


class NotFound(ServiceError):
    """No such model, version or route."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    """The route exists, not with this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{method} is not allowed here; use {' or '.join(allowed)}")
        self.allowed = allowed

    @property
    def headers(self) -> Mapping[str, str]:
        """Which methods are allowed (RFC 9110, 15.5.6)."""
        return {"allow": ", ".join(self.allowed)}


class RequestTimeout(ServiceError):
    """Headers or body did not arrive in time."""

    status, code, title = 408, "request_timeout", "Request timeout"


class ChangeRefused(ServiceError):
    """A change of the models that was asked for is not made, or not in full; what was served goes on."""

    status, code, title = 409, "change_refused", "Change refused"


class TooLarge(ServiceError):
    """Body, number of images, or width x height over its limit."""

    status, code, title = 413, "too_large", "Content too large"


class UnsupportedMediaType(ServiceError):
    """Not an image type that this server takes."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UnsupportedCoding(ServiceError):
    """A Content-Encoding that this server does not undo."""

    status, code, title = 415, "unsupported_coding", "Unsupported content coding"

    def __init__(self, coding: str, known: tuple[str, ...]) -> None:
        super().__init__(f"the Content-Encoding {coding[:40]!r} is not known; use {' or '.join(known)}, or none")
        self.known = known

    @property
    def headers(self) -> Mapping[str, str]:
        """Which codings are known (RFC 9110, 12.5.3)."""
        return {"accept-encoding": ", ".join(self.known)}


class UndecodableImage(ServiceError):
    """What begins as an image of a known type does not decode."""

    status, code, title = 422, "undecodable_image", "Undecodable image"


class TooManyRequests(ServiceError):
    """The holder of this key, or who is at this address, asks too often; there is room after `retry_after_s`."""

    status, code, title = 429, "too_many_requests", "Too many requests"

    def __init__(self, message: str, retry_after_s: int, key: str) -> None:
        super().__init__(message)
        self.retry_after_s, self.key = retry_after_s, key

    @property
    def headers(self) -> Mapping[str, str]:
        """When to come again (RFC 9110, 10.2.3)."""
        return {"retry-after": str(self.retry_after_s)}


class HeadersTooLarge(ServiceError):
    """The request's header section is over its limit."""

    status, code, title = 431, "headers_too_large", "Request header fields too large"


class InternalError(ServiceError):
    """Our own fault, for this image alone: the engine or a decoder failed in a way that no image should cause."""

    status, code, title = 500, "internal_error", "Internal server error"


class NotImplementedHere(ServiceError):
    """A method or a transfer coding that this server does not know."""

    status, code, title = 501, "not_implemented", "Not implemented"


class Unavailable(ServiceError):
    """Not now: the client may come again after `retry_after_s` seconds."""

    status, code, title = 503, "unavailable", "Service unavailable"

    def __init__(self, reason: ShedReason, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason: ShedReason = reason
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> Mapping[str, str]:
        """When to come again (RFC 9110, 10.2.3)."""
        return {"retry-after": str(self.retry_after_s)}


class DeadlineExceeded(ServiceError):
    """The request's deadline passed before its answer was there."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


def from_image_error(error: ImageError) -> ServiceError:
    """The answer to an image that preprocessing refuses."""
    by_type: dict[type[ImageError], type[ServiceError]] = {
        UnsupportedImage: UnsupportedMediaType,
        ImageTooLarge: TooLarge,
        CorruptImage: UndecodableImage,
    }
    message = str(error)
    if isinstance(error, UnsupportedImage) and error.could_be:
        message += f", or start the server with {error.could_be} in --image-types"
    return by_type[type(error)](message)


def problem(error: Exception, request_id: str) -> dict[str, Any]:
    """The RFC 9457 problem document of any exception; an unknown one shows nothing but the request's id."""
    if isinstance(error, ServiceError) and error.status != InternalError.status:
        detail, code, title, status = str(error), error.code, error.title, error.status
    else:
        detail = "The server failed to answer this request; the reason is in its log under this request id."
        code, title, status = InternalError.code, InternalError.title, InternalError.status
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    if isinstance(error, Unavailable):
        document["reason"] = error.reason
    return document
