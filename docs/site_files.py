"""Hook of mkdocs: the site holds README.md, the changelog and all repository files that are linked.

On a code host the pages' links lead to files of the repository. The site has no repository around
it: such a file is copied into it, and a link to a file that does not exist is an error.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "exporter.md": "export/README.md",
}
"""Pages of the site and their files in the repository."""

LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/, and all linked files."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    linked: set[str] = set()
    for file in files.documentation_pages():
        linked |= _linked(file.src_uri, file.content_string)
    for name in sorted(linked):
        if not (ROOT / name).exists():
            raise PluginError(f"a page links to {name}, which does not exist")
        if (ROOT / name).is_file():
            files.append(File.generated(config, _stored(name), abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files of the repository at their copies in the site."""

    def moved(match: re.Match[str]) -> str:
        name = _repository_name(page.file.src_uri, match[1])
        inside = name.removeprefix("docs/")
        if name in PAGES.values():
            inside = next(site for site, source in PAGES.items() if source == name)
        elif not name.startswith("docs/"):
            inside = _stored(name) if (ROOT / name).is_file() else ""
        return posixpath.relpath(inside or ".", posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)


def _linked(page: str, text: str) -> set[str]:
    """Return the repository files outside docs/ that a page links to."""
    names = {_repository_name(page, link) for link in LINK.findall(text)}
    return {x for x in names if not x.startswith("docs/") and x not in PAGES.values()}


def _repository_name(page: str, link: str) -> str:
    source = PAGES.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _stored(name: str) -> str:
    """Return the place of a repository file in the site; Markdown is shown as it was written."""
    return f"files/{name}.txt" if name.endswith(".md") else f"files/{name}"
