"""What a tracking store answers when it will not: one sentence that says what to do next."""

import contextlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cmkd.errors import StoreError

# A request is repeated after 0, 4, 8, 16, 32 seconds (MLflow's rule), and a little more at random.
PATIENT, BRIEF = 5, 3  # repetitions: about 60 s and 12 s
SECONDS_A_REQUEST = 60
RACES = 8  # attempts where writers insert the same row at once
TAKEN = r"(?i)unique ?(violation|constraint)"
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
PACKAGES = ("mlflow", "requests", "urllib3", "sqlalchemy", "alembic", "psycopg2", "pymysql")
LATER = "the run folders hold everything, so run the same command again later"
NAMED = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
LONGEST = 300
SECRETS = r"(?i)([?&](?:password|passwd|token|sslpassword)=)[^&#\s'\"]*"


def public(text: str) -> str:
    """Return an address, or a text with addresses in it, without user names and passwords."""
    return re.sub(SECRETS, r"\1...", re.sub(r"//[^/\s'\"]*@", "//", text))


@contextlib.contextmanager
def patience(retries: int) -> Iterator[None]:
    """Let MLflow repeat a request that many times, unless the user's environment says how often."""
    before = {name: os.environ.get(name) for name in (RETRIES, TIMEOUT)}
    os.environ.setdefault(RETRIES, str(retries))
    os.environ.setdefault(TIMEOUT, str(SECONDS_A_REQUEST))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """Turn what the store's libraries raise into one sentence, without any password.

    Raises:
        StoreError: the store cannot be reached, refuses, or is none.
    """
    try:
        yield
    except Exception as error:
        if not _of_the_store(error):
            raise
        raise StoreError(sentence(uri, error)) from None


def sentence(uri: str, error: Exception) -> str:
    """Return what went wrong with a store and what to do."""
    address, text, code = public(uri), public(" ".join(str(error).split())), status(error)
    for found, say in (
        (code == 401 or "authentication failed" in text, _unknown_user(uri)),
        (code == 403 and "Host" in text, _foreign_host(uri)),
        (code == 403, "does not let this user write here: ask its operator for the right to edit"),
        (re.search("WRONG_VERSION|record layer", text), "speaks no TLS here: write http://"),
        ("SSL" in text or "certificate" in text, "has a certificate that this machine does not "
         "trust: name its authority's file in MLFLOW_TRACKING_SERVER_CERT_PATH"),
        (_silent(text), f"does not answer: is it up, the address right, the tunnel open? {LATER}"),
        (code in (404, 405, 501) or "valid JSON" in text, "is not MLflow, or not at this path"),
        (isinstance(error, ImportError), "needs a driver: pip install psycopg2-binary"),
        ("out-of-date database schema" in text, "was made by another version of MLflow: its "
         "operator runs `mlflow db upgrade` after a backup"),
        (re.search("nsupported|Could not parse|Can't load plugin", text),
         "is no address of a store: write http(s)://HOST:PORT or sqlite:///FILE"),
    ):  # fmt: skip
        if found:
            return f"the MLflow store {address} {say}"
    return f"the MLflow store {address} refused: {text[:LONGEST]}"


def status(error: Exception) -> int | None:
    """Return the HTTP status behind an exception, None where there is none."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    found = re.search(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error", str(error))
    if found:
        return int(found[1] or found[2])
    stated = getattr(error, "get_http_status_code", None)
    code = int(stated()) if stated else 500
    return None if code == 500 else code  # 500 is also what stands for anything unnamed


def exists_already(error: Exception) -> bool:
    """Tell whether somebody else has just made what we wanted to make."""
    return getattr(error, "error_code", "") == "RESOURCE_ALREADY_EXISTS"


def is_gone(error: Exception) -> bool:
    """Tell whether a run was deleted under our hands."""
    missing = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
    return missing or "must be in the 'active' state" in str(error)


def insist(call: Callable[[], object]) -> None:
    """Repeat a call while other writers insert the same row: MLflow looks first, then inserts."""
    for attempt in range(RACES):
        try:
            call()
            return
        except Exception as error:
            if attempt == RACES - 1 or not re.search(TAKEN, str(error)):
                raise
        time.sleep(random.random() / 5)


def _of_the_store(error: Exception) -> bool:
    """Tell whether an exception comes from the store's libraries rather than from us."""
    driver = isinstance(error, ImportError) and "psycopg2" in str(error)
    return driver or type(error).__module__.split(".")[0] in PACKAGES


def _unknown_user(uri: str) -> str:
    """Return what to do about a refused or a missing password."""
    if public(uri) != uri:
        return "does not know the user and password in its address"
    if all(os.environ.get(name) for name in NAMED.split(" and ")):
        return f"does not know this user and password: mend {NAMED}"
    return f"wants to know who you are: set {NAMED}"


def _foreign_host(uri: str) -> str:
    """Return what to do about a server that does not answer to the name it was called by."""
    host = urlsplit(uri).hostname
    return (
        f"does not answer to the name {host}: its operator adds it to --allowed-hosts, or you "
        "open an SSH tunnel and use http://127.0.0.1:PORT"
    )


def _silent(text: str) -> bool:
    """Tell whether nobody answered, or only with errors."""
    signs = ("Max retries exceeded", "timeout", "timed out", "Connection", "too many 5",
             "could not translate host", "connection to server")  # fmt: skip
    return any(sign in text for sign in signs)
