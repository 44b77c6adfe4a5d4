"""Exceptions of the libraries of the stores, as those libraries make them, and what each of them means."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import ContentLengthError
from botocore.exceptions import ClientError, CredentialRetrievalError, NoCredentialsError, ReadTimeoutError
from s3fs.errors import translate_boto_error

from dedup_spark.kernels.decoding.images import ImageRejected
from dedup_spark.sources.faults import CredentialsExpired, DiskFault, Throttled, answer_of, fault_of


def of_s3(code: str, status: int, **said: Any) -> Exception:
    """What s3fs raises for an error that S3 answers with."""
    answer = {"Error": {"Code": code, "Message": f"S3 says {code}", **said},
              "ResponseMetadata": {"HTTPStatusCode": status}}  # fmt: skip
    return translate_boto_error(ClientError(answer, "GetObject"))


class HttpResponseError(Exception):
    """As that of azure.core: the status, and after `process_storage_error` the store's own code."""

    def __init__(self, error_code: str, status_code: int) -> None:
        super().__init__(f"ErrorCode:{error_code}")
        self.error_code, self.status_code, self.response = error_code, status_code, object()


class ClientAuthenticationError(HttpResponseError):
    """As that of azure.core."""


class HttpError(Exception):
    """As that of gcsfs."""

    __module__ = "gcsfs.retry"

    def __init__(self, code: int | str) -> None:
        super().__init__(f"Invalid, {code}")
        self.code = code


class RefreshError(Exception):
    """As that of google.auth."""


class ClientResponseError(Exception):
    """As that of aiohttp."""

    def __init__(self, status: int) -> None:
        super().__init__("an answer")
        self.status = status


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


REJECTED = [
    (of_s3("NoSuchKey", 404), "missing"),
    (of_s3("404", 404), "missing"),
    (of_s3("NoSuchVersion", 404), "missing"),
    (of_s3("AccessDenied", 403), "forbidden"),
    (of_s3("403", 403), "forbidden"),
    (of_s3("InvalidRequest", 400), "forbidden"),  # an object that is encrypted with a key of the customer's
    (of_s3("KMS.DisabledException", 400), "forbidden"),
    (of_s3("InvalidObjectState", 403, StorageClass="GLACIER"), "archived"),
    (HttpResponseError("BlobArchived", 409), "archived"),
    (caused_by(FileNotFoundError(errno.ENOENT, "gone"), HttpResponseError("BlobNotFound", 404)), "missing"),
    (HttpResponseError("AuthorizationPermissionMismatch", 403), "forbidden"),
    (FileNotFoundError("bucket/key"), "missing"),  # as gcsfs says 404
    (OSError("Forbidden: https://storage.googleapis.com/download/storage/v1/b/lake"), "forbidden"),
    (ClientResponseError(403), "forbidden"),
    (ClientResponseError(410), "missing"),
    (PermissionError(errno.EACCES, "Permission denied"), "forbidden"),
    (IsADirectoryError(errno.EISDIR, "Is a directory"), "forbidden"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "missing"),
    (OSError(errno.ELOOP, "Too many levels of symbolic links"), "missing"),
    (OSError(errno.ENAMETOOLONG, "File name too long"), "missing"),
]  # fmt: skip

PASSING = [
    (of_s3("SlowDown", 503), Throttled),
    (of_s3("ServiceUnavailable", 503), Throttled),
    (of_s3("503", 503), Throttled),
    (of_s3("ThrottlingException", 400), Throttled),
    (HttpResponseError("ServerBusy", 503), Throttled),
    (HttpError(429), Throttled),
    (HttpError("503"), Throttled),
    (ClientResponseError(429), Throttled),
    (of_s3("ExpiredToken", 400), CredentialsExpired),
    (of_s3("ExpiredTokenException", 400), CredentialsExpired),
    (of_s3("RequestExpired", 400), CredentialsExpired),
    (of_s3("TokenRefreshRequired", 400), CredentialsExpired),
    (of_s3("InvalidAccessKeyId", 403), CredentialsExpired),
    (of_s3("400", 400), CredentialsExpired),  # to HEAD
    (HttpResponseError("ExpiredAuthenticationToken", 401), CredentialsExpired),
    (ClientAuthenticationError("AuthenticationFailed", 403), CredentialsExpired),
    (HttpError(401), CredentialsExpired),
    (RefreshError("reauthentication needed"), CredentialsExpired),
    (NoCredentialsError(), CredentialsExpired),
    (CredentialRetrievalError(provider="sso", error_msg="expired"), CredentialsExpired),
    (caused_by(OSError("no token"), RefreshError("expired")), CredentialsExpired),
    (of_s3("InternalError", 500), OSError),
    (of_s3("RequestTimeout", 400), TimeoutError),
    (of_s3("OperationAborted", 409), OSError),
    (of_s3("NobodyKnows", 502), OSError),
    (ReadTimeoutError(endpoint_url="https://s3"), ReadTimeoutError),
    (HttpError(500), OSError),
    (ClientResponseError(504), OSError),
    (RuntimeError("connection broken"), OSError),
    (caused_by(ClientPayloadError("cut off"), ContentLengthError("not enough data")), OSError),
    (ConnectionResetError(errno.ECONNRESET, "reset"), ConnectionResetError),
    (OSError(errno.EIO, "remote"), OSError),
]


@pytest.mark.parametrize(("error", "reason"), REJECTED, ids=lambda e: repr(e)[:60])
def test_what_the_store_says_of_the_object_rejects_it(error: Exception, reason: str) -> None:
    fault = fault_of(error)
    assert isinstance(fault, ImageRejected)
    assert fault.reason == reason


@pytest.mark.parametrize(("error", "kind"), PASSING, ids=lambda e: repr(e)[:60])
def test_all_else_may_pass(error: Exception, kind: type[Exception]) -> None:
    assert type(fault_of(error)) is kind


def test_an_archived_object_names_its_storage_class() -> None:
    fault = fault_of(of_s3("InvalidObjectState", 403, StorageClass="DEEP_ARCHIVE"))
    assert "DEEP_ARCHIVE" in str(fault)


def test_a_refusal_names_the_code_of_the_store() -> None:
    assert str(fault_of(of_s3("InvalidRequest", 400))).startswith("forbidden: InvalidRequest: ")


def test_a_throttled_request_keeps_the_number_of_its_error() -> None:
    fault = fault_of(of_s3("SlowDown", 503))
    assert isinstance(fault, OSError)
    assert fault.errno == errno.EBUSY


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.ENXIO])
def test_a_disk_that_cannot_read_a_file_is_told_from_a_store(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert type(fault_of(error, on_disk=True)) is DiskFault
    assert type(fault_of(error)) is OSError


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EMFILE])
def test_a_network_mount_that_stumbles_is_as_good_as_a_store(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert fault_of(error, on_disk=True) is error


def test_causes_that_go_in_circles_end() -> None:
    first, second = OSError("first"), OSError("second")
    first.__cause__, second.__cause__ = second, first
    assert answer_of(first).status == 0
