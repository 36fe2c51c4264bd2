"""One call of the official client in a process of its own, since it reads its environment once. Prints JSON.

    client.py snapshot REPOSITORY REVISION      downloads what hanzod takes of it, and reads the files
    client.py files REPOSITORY REVISION FILE …  downloads these files, and reads them
    client.py scan                              what the client sees in the cache
"""
import hashlib
import json
import os
import sys
from pathlib import Path

import huggingface_hub


def files(folder):
    folder = Path(folder)
    found = [path for path in folder.rglob("*") if not path.is_dir()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def main(call, *arguments):
    if call == "snapshot":
        return files(huggingface_hub.snapshot_download(arguments[0], revision=arguments[1]))
    if call == "files":
        repository, revision, *names = arguments
        paths = {name: huggingface_hub.hf_hub_download(repository, name, revision=revision) for name in names}
        return {name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in paths.items()}
    cache = huggingface_hub.scan_cache_dir(os.environ["HF_HUB_CACHE"])
    revisions = {}
    for repository in cache.repos:
        for revision in repository.revisions:
            told = {str(file.file_path.relative_to(revision.snapshot_path)): [file.size_on_disk, file.blob_path.name]
                    for file in revision.files}
            revisions[f"{repository.repo_id}@{revision.commit_hash}"] = {"refs": sorted(revision.refs), "files": told}
    return {"warnings": [str(warning) for warning in cache.warnings], "revisions": revisions}


try:
    print(json.dumps(main(*sys.argv[1:]), sort_keys=True))
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
    sys.exit(1)
