# For gdb: prints as one line of JSON what the expressions in `wanted_globals` are, and those in `wanted_locals` in each frame of each thread. What a
# frame does not have is left out. The caller has set both.
import json

import gdb


def variables(expressions):
    values = {}
    for expression in expressions:
        try:
            values[expression] = str(gdb.parse_and_eval(expression))
        except gdb.error:
            pass  # not in this frame
    return values


def frames():
    frame = gdb.newest_frame()
    while frame is not None:
        frame.select()
        yield {"function": frame.name(), "variables": variables(wanted_locals)}
        stopped = frame.unwind_stop_reason()
        frame = frame.older()
        if frame is None and stopped not in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST):
            print("stopped:", gdb.frame_stop_reason_string(stopped))


threads = []
for thread in gdb.selected_inferior().threads():
    thread.switch()
    threads.append({"tid": thread.ptid[1], "frames": list(frames())})
print(json.dumps({"globals": variables(wanted_globals), "threads": threads}))
