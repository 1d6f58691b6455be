# For gdb: the frames of Python of each thread, as python3-dbg's commands print them, with a line in front that says whose they are.
import gdb

for thread in gdb.selected_inferior().threads():
    thread.switch()
    print("thread", thread.ptid[1])
    gdb.execute("py-bt-full")
