# SPDX-License-Identifier: BSD-3-Clause
"""The text the demo model learned and the part held out from it: the Debian packages bible-kjv and
bible-kjv-text, installed, or fetched by `apt-get download` into a temporary folder.
"""
import re
import shutil
import subprocess
import tempfile
from pathlib import Path


def print_bible():
    """The whole text as the `bible` program prints it: "Genesis 1", then "  1 In the ..."."""
    everything = ["-l100000", "Gen1:1-Rev22:21"]
    if shutil.which("bible"):
        command = ["bible", *everything]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              check=True, text=True, encoding="latin-1").stdout
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "bible-kjv", "bible-kjv-text"], cwd=folder,
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
        command = [f"{folder}/usr/bin/bible", "-p", f"{folder}/usr/lib", *everything]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              check=True, text=True, encoding="latin-1").stdout


def join_verses(verses):
    """Paragraphs of about four verses that end where a sentence ends."""
    paragraphs, current = [], []
    for verse in verses:
        current.append(verse)
        if len(current) >= 4 and verse[-1] in ".?!":
            paragraphs.append(" ".join(current))
            current = []
    if current:
        paragraphs.append(" ".join(current))
    return "\n\n".join(paragraphs)


def read_chapters():
    chapters = []
    for line in print_bible().splitlines():
        verse = re.fullmatch(r" +\d+ (.*\S)\s*", line)
        if verse:
            chapters[-1].append(re.sub(r"\s+", " ", verse.group(1)))
        elif line.strip():
            chapters.append([])
    assert len(chapters) == 1189, f"{len(chapters)} chapters, expected 1189"
    return [join_verses(chapter) for chapter in chapters]


def split_chapters(chapters):
    """What is learned, and every 33rd chapter, which is not."""
    return [c for i, c in enumerate(chapters) if i % 33 != 16], chapters[16::33]
