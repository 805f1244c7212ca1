"""Running a page with papermill: its parameters are checked first, and the outcome is whole or none."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from odinlib import artefacts
from odinlib.book import parameters
from odinlib.errors import UserError, in_words, reading


def execute(
    notebook: str | Path, output: str | Path, given: Mapping[str, Any] | None = None, *, progress: bool = True
) -> None:
    """Run a notebook with papermill: parameters are checked first, and `output` appears only if all went well.

    Args:
        notebook: the source.
        output: where the executed notebook goes; a failed run leaves `<output>.failed.ipynb` there instead.
        given: parameters by name.
        progress: show papermill's bar over the cells.

    Raises:
        UserError: no such notebook or kernel, a wrong parameter, an output that cannot be written, or a cell that
            failed.
    """
    import nbformat
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    source, output = Path(notebook), Path(output)
    values = parameters.check(parameters.declared(source), given or {})
    if output.exists() and output.samefile(source):
        raise UserError(f"{output} is the page itself", expected="another file for what it gives")
    with reading(source, "save it anew in Jupyter"):
        page = nbformat.reads(source.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(page)
        kernel = page.metadata.kernelspec.name
    logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it would print it raises too
    # With these set, Jupyter might start another environment's Python instead of this one.
    for variable in ("JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"):
        os.environ.pop(variable, None)
    # What cannot be written is told now, and not after the whole run.
    with artefacts.write_atomically(output) as file, _short_folder() as folder:
        made = folder / "page.ipynb"
        # The kernel is spoken to through files: ports are open to others, and two kernels may be given the same one.
        local = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
        try:
            papermill.execute_notebook(
                source,
                made,
                {name: values[name] for name in given or {}},
                progress_bar=progress,
                config=local,
                extra_arguments=["--IPKernelApp.log_level=50"],  # it is interrupted at its end, and would say so
            )
            file.write(made.read_bytes())
        except papermill.PapermillExecutionError as error:
            failed = output.with_suffix(".failed.ipynb")
            with artefacts.write_atomically(failed) as kept:
                kept.write(made.read_bytes())
            what = f"{error.ename}: {in_words(Exception(error.evalue))}" if error.evalue else error.ename
            if list(error.traceback) == [f"{error.ename}: {error.evalue}"]:  # a UserError's, see `_render_traceback_`
                raise UserError(f"{source.name}: {error.evalue}") from None
            raise UserError(f"{source.name}: {what}", remedy=f"{failed} shows where") from error
        except NoSuchKernel as error:
            raise UserError(
                f"{source.name} wants the kernel {kernel!r}, which is not here", expected="python3"
            ) from error
        except DeadKernelError as error:
            remedy = "it may have needed more memory than there is: ask for less at a time"
            raise UserError(f"{source.name}: its kernel died", remedy=remedy) from error


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    """A temporary folder in whose files one can speak to a kernel: their paths have at most 107 bytes."""
    base = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="odin-", dir=base if len(os.fsencode(base)) < 64 else "/tmp") as folder:
        yield Path(folder)
