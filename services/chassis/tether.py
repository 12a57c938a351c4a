"""Starts a program that dies when its supervisor does, even by kill -9. Standard library only.

    python -I -S tether.py SUPERVISOR_PID PIPE_FD -- PROGRAM ARGUMENT…

This little program ties the knot and then becomes PROGRAM (exec): nothing of it stays behind. Tying it in
the new process instead of between fork and exec keeps Python code out of a place where, with the threads
of gRPC around, none is safe.

On Linux the kernel holds the knot: PR_SET_PDEATHSIG kills the process when the *thread* that started it
ends, which is why the supervisor starts programs from a thread that lives as long as itself. Elsewhere
(PIPE_FD is not -1) a watcher holds it: it waits for the other end of a pipe to close, as it does when the
supervisor ends in whatever way, and kills the process group that it shares with the program. Being a
member, it also keeps the group's number from being given to anyone else.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 126  # what shells answer with

NO_PIPE = -1


def main() -> None:
    supervisor, pipe, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]
    if pipe == NO_PIPE:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it ended before the knot was tied
            os._exit(_CANNOT_RUN)
    elif _is_watcher():
        _watch(pipe)
    else:
        os.close(pipe)
    try:
        os.execv(program[0], program)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 (goes to the program's log)
        os._exit(_CANNOT_RUN)


def _is_watcher() -> bool:
    """True in a grandchild, so that the program never finds a child of whom it knows nothing."""
    if child := os.fork():
        os.waitpid(child, 0)
        return False
    if os.fork():
        os._exit(0)
    return True


def _watch(pipe: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
