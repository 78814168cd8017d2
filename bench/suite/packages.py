"""The peers' programs, from Debian's packages."""

import os
import pathlib
import shutil

from .bench import Failure, run

# Asked by Debian's packages before they start a service; 101 means no.
POLICY = pathlib.Path("/usr/sbin/policy-rc.d")


def provide(bench, wanted):
    """Installs what is missing of these, given as program and package; only root can."""
    missing = sorted({package for program, package in wanted.items() if not is_there(program)})
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.getuid() != 0 or not shutil.which("apt-get"):
        raise Failure(f"missing: {', '.join(missing)}; get them: {' '.join(command)}")
    bench.say(f"installs {', '.join(missing)}")
    # The programs are all that is wanted: no service of the system is to begin because of a measurement.
    own_policy = not POLICY.exists()
    if own_policy:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "--quiet"], env=environment)
        run(command, env=environment)
    finally:
        if own_policy:
            POLICY.unlink()


def is_there(program):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return shutil.which(program, path=path) is not None
