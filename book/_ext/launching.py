"""Buttons that open a page on Binder or Colab, and one to the repository, as soon as that has an address.

The one setting is `repository: url` in `_config.yml`. Without it there is no button at all, which would be a dead one.
"""

from typing import Any

from sphinx.application import Sphinx

SERVICES = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}


def offer(app: Sphinx, config: Any) -> None:
    """Set the theme's options by whether the repository has an address."""
    options = config.html_theme_options
    if options.get("repository_url"):
        # A page's name in the book is its notebook's place in the repository: `notebooks/04-experiments`.
        options |= {"launch_buttons": {**SERVICES, "notebook_interface": "jupyterlab"}, "path_to_docs": ""}
        options |= {"use_repository_button": True}


def lead_home(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """A live page opens the notebook that it was made from."""
    if pagename.startswith("live/"):
        for group in context.get("header_buttons", []):
            for button in group.get("buttons", []):
                if "url" in button:
                    button["url"] = button["url"].replace("/live/", "/notebooks/")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("config-inited", offer)
    app.connect("html-page-context", lead_home, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
