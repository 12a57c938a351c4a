"""Our edge as a process of its own: the same as `python -m gateway`, but it says which port it took.

python -m tests.load.programs.gateway HOST:PORT
"""

import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway import app
from services.chassis import telemetry
from services.cli import contracts
from tests.load.programs import commands


async def main(target: str) -> None:
    telemetry.configure_logging("gateway", "info")
    gateway = app.build(FileDescriptorSet.FromString(contracts.descriptor_set()), [target])
    async with app.running(gateway) as running:
        app.settle()
        await commands.obey(port=running.port)


if __name__ == "__main__":
    commands.run(main(sys.argv[1]))
