"""What an error of a store's library means: an answer about the object, or a fault that may pass.

Only an answer about the object itself rejects it for good. None of the libraries is imported here: a cluster installs
those of its own stores, and each has error types of its own, so they are recognised by code, HTTP status and name.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Set
from dataclasses import dataclass

from dedup_spark.kernels.decoding.images import ImageRejected


class Throttled(OSError):
    """The store asks for fewer requests."""


class CredentialsExpired(OSError):
    """The store does not accept these credentials (any more), which says nothing about the object."""


class DiskFault(OSError):
    """A disk of this machine cannot read the file; if that passes, then within seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said: its own code, the HTTP status, the storage class; empty, 0 and None where unsaid."""

    code: str = ""
    status: int = 0
    storage_class: str | None = None


SAID_NOTHING = Answer()
"""Of an error that is no answer: the store was not reached, or not asked."""
ERRORS_OF_PROGRAMS = (ImportError, TypeError, AttributeError, NotImplementedError, LookupError)
"""No store raises these: a package is missing or a program is wrong, and no pause mends that."""
_NO_SUCH_ADDRESS = frozenset(
    {
        "ParamValidationError", "UnicodeEncodeError",  # botocore, Python
        "InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError",  # aiohttp, requests
    }
)  # fmt: skip
"""Names of errors of clients that find in an address what no store can have."""
_ARCHIVED = frozenset({"InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"})
_EXPIRED = frozenset(
    {
        "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken",
        "ExpiredAuthenticationToken", "InvalidAuthenticationInfo", "AuthenticationFailed", "InvalidAccessKeyId",
        "InvalidClientTokenId", "UnrecognizedClientException", "RequestTimeTooSkewed", "NoAuthenticationInformation",
    }
)  # fmt: skip
_CREDENTIAL_ERRORS = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
        "SSOTokenLoadError", "UnauthorizedSSOTokenError",  # botocore
        "ClientAuthenticationError", "RefreshError", "DefaultCredentialsError",  # azure.core, google.auth
    }
)  # fmt: skip
_THROTTLED = frozenset(
    {
        "SlowDown", "ServerBusy", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "Throttling",
        "ThrottlingException", "RequestThrottled", "BandwidthLimitExceeded", "KMS.ThrottlingException",
    }
)  # fmt: skip
_PASSING = frozenset({"RequestTimeout", "OperationAborted", "OperationTimedOut", "InternalError", "IncompleteBody"})
"""Codes of faults that may pass; some of them come with a status of 400."""
_PASSING_STATUS = frozenset({307, 408, 409, 425})
_MISSING_IN_JAVA = frozenset({"java.io.FileNotFoundException", "java.nio.file.NoSuchFileException"})
_FORBIDDEN_IN_JAVA = frozenset(
    {"java.nio.file.AccessDeniedException", "org.apache.hadoop.security.AccessControlException"}
)
_NO_SUCH_NAME = frozenset({errno.ELOOP, errno.ENAMETOOLONG})
_OF_THE_MACHINE = frozenset(
    {
        errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ECONNRESET, errno.EREMOTEIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
    }
)  # fmt: skip
"""Faults of a network mount or of a busy machine; any other error of a local file is a fault of its disk."""


def fault_of(error: Exception, *, on_disk: bool = False) -> Exception:
    """What an error of a store's library means, or with `on_disk` an error of a local file.

    It is an ImageRejected with `missing`, `forbidden` or `archived` where the store said so of this object. Else it is
    an OSError, which may pass; the classes of this module say more about it. The caller sets `__cause__`.
    """
    answer = answer_of(error)
    if answer.code in _ARCHIVED:
        kind = answer.storage_class or answer.code
        return ImageRejected("archived", f"in an archive ({kind}): restore the object, and the next run reads it")
    if _is_of_credentials(error, answer):
        return CredentialsExpired(f"{type(error).__name__}: {error}")
    if answer.code in _THROTTLED or answer.status in (429, 503):
        return Throttled(*error.args) if isinstance(error, OSError) else Throttled(f"{type(error).__name__}: {error}")
    if answer.code not in _PASSING and (said := _said_of_object(error, answer)):
        return said
    if not isinstance(error, OSError):  # a time-out or a broken connection of botocore, aiohttp and others
        return OSError(f"{type(error).__name__}: {error}")
    is_of_disk = on_disk and type(error) is OSError and error.errno not in _OF_THE_MACHINE
    return DiskFault(*error.args) if is_of_disk else error


def fault_of_read(error: Exception, *, on_disk: bool = False) -> Exception:
    """As `fault_of`, of an attempt to read one object: what no pause mends is at once an ImageRejected.

    It is `store_unavailable`: the address has a scheme for which this machine has no package, or one that fsspec does
    not serve by an address alone. That says nothing of the object, so the next run asks again.
    """
    fault = fault_of(error, on_disk=on_disk)
    is_decided = isinstance(fault, ImageRejected | CredentialsExpired | Throttled) or isinstance(error, OSError)
    is_ours = isinstance(error, (*ERRORS_OF_PROGRAMS, ValueError)) and not isinstance(error, json.JSONDecodeError)
    if is_decided or not is_ours:
        return fault
    return ImageRejected("store_unavailable", f"nothing here reads such an address: {type(error).__name__}: {error}")


def reason_of_java(classes: Set[str], text: str) -> tuple[str, str]:
    """Reason and message for an exception of Hadoop's connectors: by the names of its class and of those above, and by
    its text, in which they quote the store's own code. `store_unavailable` is a fault that may pass."""
    message = " ".join(text.split())[:500]
    if any(code in text for code in _ARCHIVED):
        return "archived", message
    if any(code in text for code in _EXPIRED):
        return "expired_credentials", message
    if classes & _FORBIDDEN_IN_JAVA or "(Permission denied)" in text:  # of a local file: a FileNotFoundException
        return "forbidden", message
    return ("missing" if classes & _MISSING_IN_JAVA else "store_unavailable"), message


def answer_of(error: BaseException) -> Answer:
    """The store's answer in an exception of botocore, azure.core, gcsfs, google.api_core, aiohttp or requests."""
    for e in _chain(error):
        response = getattr(e, "response", None)
        if isinstance(response, dict):  # botocore, which s3fs keeps as the cause of its own errors
            said, code = response.get("Error", {}), str(response.get("Error", {}).get("Code", ""))
            status = _status(response.get("ResponseMetadata", {}).get("HTTPStatusCode")) or _status(code)
            return Answer("" if code.isdigit() else code, status, said.get("StorageClass"))
        code = getattr(e, "error_code", None) or ""
        places = [getattr(e, name, None) for name in ("status_code", "status")]
        places += [getattr(e, "code", None)] if _is_of_google(e) else []  # aiohttp gives its own 400 to a broken answer
        status = max(map(_status, [*places, getattr(response, "status_code", None)]))
        if code or status:
            return Answer(str(getattr(code, "value", code)), status)
    return Answer()


def _said_of_object(error: Exception, answer: Answer) -> ImageRejected | None:
    no_name = isinstance(error, OSError) and error.errno in _NO_SUCH_NAME
    if isinstance(error, FileNotFoundError | NotADirectoryError) or no_name or answer.status in (404, 410):
        return ImageRejected("missing", f"no such object: {error}")
    if any(c.__name__ in _NO_SUCH_ADDRESS for c in type(error).__mro__):
        return ImageRejected("missing", f"no object can have this address: {error}")
    is_refusal = 300 <= answer.status < 500 and answer.status not in _PASSING_STATUS
    if isinstance(error, PermissionError | IsADirectoryError) or is_refusal or _is_forbidden_by_gcsfs(error):
        return ImageRejected("forbidden", f"{answer.code}: {error}" if answer.code else str(error))
    return None


def _is_of_credentials(error: Exception, answer: Answer) -> bool:
    if answer.code in _EXPIRED or answer.status == 401:
        return True
    if not answer.code and answer.status == 400 and isinstance(error, OSError):  # S3 on HEAD: no body
        return True
    return any(_CREDENTIAL_ERRORS & {c.__name__ for c in type(e).__mro__} for e in _chain(error))


def _is_forbidden_by_gcsfs(error: Exception) -> bool:
    return type(error) is OSError and str(error).startswith("Forbidden: ")


def _is_of_google(error: BaseException) -> bool:
    return any(c.__module__.startswith(("gcsfs", "google")) for c in type(error).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    seen: list[BaseException] = []
    e: BaseException | None = error
    while e is not None and e not in seen:
        yield e
        seen.append(e)
        e = e.__cause__


def _status(value: object) -> int:
    """An HTTP status given as a number or as digits; 0 for anything else."""
    number = int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else 0
    return number if 100 <= number < 600 else 0
