"""The edge of the program: whatever ends a command is one line on stderr and an exit status, and no traceback.

A user's mistake, and what the outside world raises (`errors.told`), end with 1; so does what nobody foresaw, whose
traceback goes to a file that the line names. Ctrl-C ends with 130, SIGTERM with 143: the line says what is kept and how
to go on.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from odinlib.errors import UserError, logged, told

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN = 2.0  # seconds within which a second signal is the same wish: terminals and parents both send one
_QUIET = "ODINLIB_QUIET_STOP"  # set where whoever started this says that it was stopped
NOTHING = "nothing was being written; run it again"


class Program(click.Command):
    """What is started from a command line: its help, and what is wrong with its options, end in one line too."""

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.get("standalone_mode", True):  # a part of another one
            return super().main(*args, **options)
        _open_streams()
        try:
            with edge():
                _check_place()
                status = super().main(*args, **{**options, "standalone_mode": False})  # or it would say "Aborted!"
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.exceptions.Exit as ended:
            sys.exit(ended.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


class Command(Program):
    """A command whose every end is one line.

    Args:
        kept: what is kept, and how to go on, when it is stopped.
    """

    def __init__(self, *args: Any, kept: str = NOTHING, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept = kept

    def invoke(self, ctx: click.Context) -> Any:
        with edge(self.kept):
            return super().invoke(ctx)


@contextlib.contextmanager
def edge(kept: str = NOTHING) -> Iterator[None]:
    """End the process in one line, where what is done meanwhile is stopped or fails.

    Raises:
        click.exceptions.Exit: it failed.
        SystemExit: it was stopped, and with it whatever called it.
    """
    with _signals() as received:
        try:
            for stream in (sys.stdout, sys.stderr):
                if hasattr(stream, "reconfigure"):  # names of files need not be text
                    stream.reconfigure(errors="backslashreplace")
            yield
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:
            # Libraries make other exceptions of an interrupt that reaches them in the middle of something.
            if received or isinstance(error, KeyboardInterrupt):
                _tell(f"stopped; {kept}" if _QUIET not in os.environ else "")
                raise SystemExit(128 + (received[0] if received else signal.SIGINT)) from None
            if isinstance(error, click.ClickException | click.exceptions.Exit | click.Abort | BrokenPipeError):
                raise
            _tell(f"error: {told(error) or logged(error)}")
            raise click.exceptions.Exit(1) from None


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """While this lasts, signals that mean the end raise KeyboardInterrupt; which they were."""
    received: list[int] = []
    last = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if received and time.monotonic() - last < _AGAIN:
            return
        last = time.monotonic()
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        # Who ignores one, as jobs in the background do, goes on ignoring it.
        taken = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_streams() -> None:
    """Open those streams that were closed when the process began, or the next files would take their places."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _check_place() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:  # of which some libraries die at their import
        raise UserError("the folder that you are in was removed", remedy="cd to another one") from None


def _tell(line: str) -> None:
    """The last line of a process, after what it had to say before."""
    try:
        sys.stdout.flush()
    except OSError:  # nothing of it can be written, and Python would complain once more at the end
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if line:
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)
