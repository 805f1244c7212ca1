"""Running a page with papermill: its parameters are checked first, and the outcome is whole or none."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from odinlib.book import parameters
from odinlib.errors import UserError


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
        UserError: no such notebook, a wrong parameter, or a user's mistake that the notebook itself found.
        papermill.PapermillExecutionError: a cell failed for another reason.
    """
    import papermill
    from traitlets.config import Config

    source, output = Path(notebook), Path(output)
    values = parameters.check(parameters.declared(source), given or {})
    # With these set, Jupyter might start another environment's Python instead of this one.
    for variable in ("JUPYTER_PATH", "JUPYTER_PREFER_ENV_PATH"):
        os.environ.pop(variable, None)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.{os.getpid()}.partial.ipynb")
    # The kernel is spoken to through files: ports are open to others, and two kernels may be given the same one.
    with tempfile.TemporaryDirectory() as sockets:
        local = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"})
        try:
            papermill.execute_notebook(
                source, partial, {name: values[name] for name in given or {}}, progress_bar=progress, config=local
            )
            partial.replace(output)
        except papermill.PapermillExecutionError as error:
            partial.replace(output.with_suffix(".failed.ipynb"))
            if len(error.traceback) == 1:  # a UserError has told it in one line, see its `_render_traceback_`
                raise UserError(f"{source.name}: {error.evalue}") from None
            raise
        finally:
            partial.unlink(missing_ok=True)
