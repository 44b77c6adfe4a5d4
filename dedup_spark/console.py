"""What a person sees on standard error: log lines as text or JSON, and on a terminal one line of progress in place.

Standard output belongs to answers. Progress is a log record with a `share`, 0 to 1, of which a terminal shows a bar;
where there is no terminal it is a line like any other. Colours only on a terminal, and not where NO_COLOR is set.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from datetime import UTC, datetime
from typing import TextIO

from dedup_spark.printable import printable
from dedup_spark.redaction import RedactingFormatter, without_secrets

PACKAGE = "dedup_spark"
_CLEARED = "\r\x1b[K"
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_PLAIN = "\x1b[0m"
_STANDARD_ERROR = 2
_LIBRARIES = ("DataFrameQueryContextLogger", "py4j")
"""They log each error that they also raise, as JSON with a trace of Java, or as one of Python."""
_BAR_WIDTH = 24

log = logging.getLogger(PACKAGE)


class JsonFormatter(logging.Formatter):
    """One object a line, without secrets: time (ISO 8601, UTC), level, message, and the trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": at, "level": record.levelname, "message": without_secrets(record.getMessage())}
        if record.exc_info:
            told["trace"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False)


class Console(logging.Handler):
    """Writes to what standard error is at the moment."""

    def __init__(self, *, as_json: bool = False) -> None:
        super().__init__()
        self.as_json, self._has_progress = as_json, False
        plain = RedactingFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self.setFormatter(JsonFormatter() if as_json else plain)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record), record.levelno, share=getattr(record, "share", None))
        except Exception:  # as every handler of logging: a line that cannot be written stops no run
            self.handleError(record)

    def say(self, text: str) -> None:
        """A sentence of the command itself, which no log level hides."""
        self._write(self.sentence(text), logging.INFO)

    def sentence(self, text: str) -> str:
        """As `say` writes it, without its line end."""
        if self.as_json:
            return self.format(logging.LogRecord(PACKAGE, logging.ERROR, "", 0, text, (), None))
        return f"dedup-spark: {printable(without_secrets(text))}"

    def _write(self, text: str, level: int, *, share: float | None = None) -> None:
        stream = sys.stderr
        is_live = is_terminal(stream) and not self.as_json
        before, end, in_place = self.end_progress(), "\n", is_live and share is not None
        if is_live and share is not None:
            text, end = f"{_bar(share)} {text.partition(' INFO ')[2]}"[: _columns(stream) - 1], ""
        elif is_live and level in _COLOURS and not os.environ.get("NO_COLOR"):
            text = f"{_COLOURS[level]}{text}{_PLAIN}"
        stream.write(f"{before}{text}{end}")
        stream.flush()
        self._has_progress = in_place

    def end_progress(self) -> str:
        """What to write in front of a text that does not come through this handler."""
        had, self._has_progress = self._has_progress, False
        return _CLEARED if had else ""


def set_up(*, verbose: bool = False, quiet: bool = False, as_json: bool = False) -> None:
    """Log to standard error, unless the host program has set up logging.

    `verbose`: also what Ivy, Java and Spark print, and the traces of errors. `quiet`: warnings and errors alone.
    """
    console = _ours()
    if console is None and not log.handlers and not logging.getLogger().handlers:
        console = Console(as_json=as_json)
        log.addHandler(console)
        log.propagate = False
    elif console is not None and console.as_json != as_json:
        log.removeHandler(console)
        log.addHandler(Console(as_json=as_json))
    if console is not None or verbose or quiet:
        log.setLevel(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO)
    if not verbose:
        _hush_libraries()


def configure_logging() -> None:
    """`set_up` for those who call from Python: what they, or the command, set up before stays as it is."""
    if _ours() is None:
        set_up()


def is_verbose() -> bool:
    """Whether a person wants to see everything, as `--verbose` asks."""
    return log.isEnabledFor(logging.DEBUG)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person sees each line as it is written, and it can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def shows_progress() -> bool:
    """Whether progress is written over in place, so that it may be told more often."""
    console = _ours()
    return console is not None and not console.as_json and is_terminal(sys.stderr)


def say(text: str) -> None:
    """A sentence about an error or an end, on standard error: `dedup-spark: ...`, or JSON where the log is JSON."""
    (_ours() or Console()).say(text)


def answer(text: str) -> None:
    """A text on standard output."""
    console = _ours()
    if console is not None:
        sys.stderr.write(console.end_progress())
    sys.stdout.write(printable(without_secrets(text)) + "\n")
    sys.stdout.flush()


def last_words(text: str) -> None:
    """`say` from inside a signal: the stream may be in the middle of a write, so it goes around it.

    Nothing is written to it any more: threads that lose their JVM in the middle of a call, PySpark's own among them,
    write traces.
    """
    console = _ours() or Console()
    os.write(_STANDARD_ERROR, f"{console.end_progress()}{console.sentence(text)}\n".encode(errors="replace"))
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STANDARD_ERROR)


def _hush_libraries() -> None:
    for name in _LIBRARIES if _ours() else _LIBRARIES[:1]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    if _ours() and not sys.warnoptions:
        warnings.simplefilter("ignore")  # deprecations in libraries say nothing to those who run the command


def _ours() -> Console | None:
    return next((handler for handler in log.handlers if isinstance(handler, Console)), None)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except OSError:
        return 80


def _bar(share: float) -> str:
    n_full = round(_BAR_WIDTH * min(max(share, 0.0), 1.0))
    return f"[{'#' * n_full}{'.' * (_BAR_WIDTH - n_full)}] {100 * share:3.0f}%"
