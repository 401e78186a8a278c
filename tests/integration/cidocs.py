#!/usr/bin/env python3
"""
The documents in doc/ci: YAML with the members that GitHub and GitLab require and no other, scripts that a
shell can read, and no option that bantam does not have. Each kind of fault, put into a copy, is found.
Prints TAP lines. Exit status: 0 if nothing failed.
"""
import os
import re
import subprocess
import sys
import tempfile

import yaml

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
GITHUB, GITLAB = "doc/ci/github.yml", "doc/ci/gitlab.yml"
PLACE = re.compile(r"\$\{\{ [a-z]+(\.[A-Za-z_]+)+ \}\}")


class Fault(Exception):
    pass


def members(what, value, required, allowed=()):
    if not isinstance(value, dict):
        raise Fault(f"{what}: is no mapping")
    for name in required:
        if name not in value:
            raise Fault(f"{what}: {name} is missing")
    for name in value:
        if name not in required and name not in allowed:
            raise Fault(f"{what}: there is no {name}")


def text(what, value):
    if not isinstance(value, str) or not value.strip():
        raise Fault(f"{what}: is no text")
    return value


def github(document):
    """https://docs.github.com/actions/reference/workflow-syntax-for-github-actions; returns its scripts."""
    # YAML 1.1 reads "on" as true, GitHub does not.
    document = {"on" if name is True else name: value for name, value in document.items()}
    members("workflow", document, ("on", "jobs"), ("name", "permissions", "env", "defaults", "concurrency", "run-name"))
    members("on", document["on"], (), ("push", "pull_request", "schedule", "workflow_dispatch"))
    scripts = []
    for name, job in document["jobs"].items():
        members(name, job, ("runs-on", "steps"), ("name", "needs", "if", "env", "timeout-minutes", "permissions", "container", "strategy"))
        text("runs-on", job["runs-on"])
        for step in job["steps"]:
            members("step", step, (), ("name", "if", "uses", "with", "run", "env", "id", "shell", "working-directory",
                                       "continue-on-error", "timeout-minutes"))
            if ("run" in step) == ("uses" in step):
                raise Fault("step: has run or uses, not both")
            if "run" in step:
                scripts.append(text("run", step["run"]))
            elif not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]):
                raise Fault(f"uses: {step['uses']}: is no action with a version")
    return scripts


def gitlab(document):
    """https://docs.gitlab.com/ci/yaml/; returns its scripts."""
    scripts = []
    for name, job in document.items():
        members(name, job, ("script",), ("image", "tags", "timeout", "before_script", "after_script", "artifacts", "stage",
                                         "variables", "rules", "needs", "allow_failure"))
        if "artifacts" in job:
            members("artifacts", job["artifacts"], (), ("when", "expire_in", "paths", "reports", "name", "exclude"))
            members("reports", job["artifacts"].get("reports", {}), (), ("junit",))
            if job["artifacts"].get("when") not in (None, "always", "on_failure", "on_success"):
                raise Fault("artifacts: when")
        for key in ("before_script", "script"):
            if not isinstance(job.get(key, []), list):
                raise Fault(f"{key}: is no list")
            scripts += [text(key, line) for line in job.get(key, [])]
    return scripts


def check(path, content, kind):
    """Raises Fault."""
    try:
        document = yaml.safe_load(content)
        members(path, document, (), document if isinstance(document, dict) else ())
        scripts = kind(document)
    except yaml.YAMLError as error:
        raise Fault(str(error)) from error
    shell = PLACE.sub("X", "\n".join(scripts))
    done = subprocess.run(["bash", "-n"], input=shell, text=True, stderr=subprocess.PIPE)
    if done.returncode:
        raise Fault(done.stderr)
    if "bantam test" not in shell:
        raise Fault("tests nothing")
    # The kernel's make is not ours.
    ours = "\n".join("    " + line for line in shell.splitlines() if not line.startswith("make"))
    with tempfile.NamedTemporaryFile("w", suffix=".md") as file:
        file.write("\n" + ours + "\n")
        file.flush()
        done = subprocess.run(["tools/check-readme", file.name], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Fault(done.stdout)


def main():
    failed = 0
    contents = {path: open(path, encoding="utf-8").read() for path in (GITHUB, GITLAB)}
    kinds = {GITHUB: github, GITLAB: gitlab}
    for path, content in contents.items():
        try:
            check(path, content, kinds[path])
            print(f"ok - {path}")
        except Fault as fault:
            failed += 1
            print(f"not ok - {path}: {fault}")
    # path, what is wrong, what it replaces, by what, what is said
    for path, name, old, new, says in (
            (GITHUB, "YAML", "jobs:\n", "jobs: [\n", "expected"),
            (GITHUB, "no event", "on:\n  push:\n  pull_request:\n", "", "on is missing"),
            (GITHUB, "no runner", "    runs-on: ubuntu-24.04\n", "", "runs-on is missing"),
            (GITHUB, "an unknown member", "timeout-minutes", "timeout", "there is no timeout"),
            (GITHUB, "a step of two kinds", "      - uses: actions/checkout@v4\n",
             "      - uses: actions/checkout@v4\n        run: ls\n", "not both"),
            (GITHUB, "an action without a version", "checkout@v4", "checkout", "with a version"),
            (GITHUB, "quotes", "KERNEL==\"kvm\", MODE=\"0666\"'", "KERNEL==\"kvm\"", "unexpected EOF"),
            (GITHUB, "an option", "--junit boot.xml", "--xunit boot.xml", "no option --xunit"),
            (GITLAB, "no script", "  script:\n", "  scripts:\n", "script is missing"),
            (GITLAB, "an unknown member", "  tags:\n", "  runner:\n", "there is no runner"),
            (GITLAB, "a report", "      junit:", "      xunit:", "there is no xunit"),
            (GITLAB, "an option", "--timeout 10m", "--time 10m", "no option --time")):
        said = "nothing"
        damaged = contents[path].replace(old, new, 1)
        try:
            check(path, damaged, kinds[path])
        except Fault as fault:
            said = str(fault)
        if damaged != contents[path] and says in said:
            print(f"ok - {path}: {name}")
        else:
            failed += 1
            print(f"not ok - {path}: {name}: {said!r}")
    # The page and the workflow give the same rule.
    with open("vmm/bantam-test.1", encoding="utf-8") as file:
        page = file.read()
    rule = re.search(r"^ *(echo 'KERNEL.*)$", contents[GITHUB], re.M)[1]
    if rule in page:
        print("ok - the udev rule of the page and of the workflow")
    else:
        failed += 1
        print("not ok - the udev rule of the page and of the workflow")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
