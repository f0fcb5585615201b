"""The README as a package index shows it, which has none of the files that it links to.

Links lead to the repository that a release is built from, at its tag (the variables are those of GitHub's runners);
where no release is built they are plain text. All else stands in pyproject.toml.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from setuptools import setup


def readme(text: str, environment: Mapping[str, str]) -> str:
    """The README without links that lead nowhere.

    Args:
        text: as it stands in the repository.
        environment: of the build.
    """
    server, repository, tag = (environment.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "REF_NAME"))

    def link(found: re.Match[str]) -> str:
        if "://" in found["to"]:
            return found[0]
        if not (server and repository and tag):
            return "" if found["image"] else found["text"]
        kind = "raw" if found["image"] else "blob"
        return f"{found['image']}[{found['text']}]({server}/{repository}/{kind}/{tag}/{found['to']})"

    return re.sub(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)\s]+)\)", link, text)


if __name__ == "__main__":
    README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=readme(README, os.environ), long_description_content_type="text/markdown")
