# For drgn: prints the stack of each thread of the core `argv[1]` of the program `argv[2]`.
import sys

import drgn

program = drgn.Program()
program.set_core_dump(sys.argv[1])
try:
    program.load_default_debug_info()
except drgn.MissingDebugInfoError as error:
    # Debian has that of some libraries in packages of their own.
    missing = str(error).splitlines()[1:]
    assert all("/lib/" in line and sys.argv[2] not in line for line in missing), missing
for thread in program.threads():
    lines = str(thread.stack_trace()).splitlines()
    # What called the outermost function is no function; gdb shows no frame for it.
    if lines[-1].endswith(" ???"):
        lines.pop()
    print("thread", thread.tid)
    print(*lines, sep="\n")
