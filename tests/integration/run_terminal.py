#!/usr/bin/env python3
"""mayfly-agent run at a terminal, under a shell with job control: ^Z stops it as a job, fg continues it, ^C reaches
the program once, and what the shell sees is the program's end."""
import os
import pty
import select
import sys
import tempfile
import time

PATIENCE = 30
pid, fd = pty.fork()
if pid == 0:
    os.environ["PS1"] = "ready> "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
said = ""


def expect(words):
    """All up to the words is taken away, so that each is waited for behind the last."""
    global said
    until = time.monotonic() + PATIENCE
    while words not in said:
        if time.monotonic() > until or not select.select([fd], [], [], PATIENCE)[0]:
            sys.exit("'%s' did not come, but: %r" % (words, said))
        said += os.read(fd, 4096).decode(errors="replace")
    said = said[said.index(words) + len(words):]


def types(text):
    os.write(fd, text.encode())


# Not a shell: bash loses a signal now and then that comes while another's trap runs or a child of its dies of the same.
PROGRAM = """import os, signal, time
def says(words): # without a buffer: a handler may come while another writes, or the program itself
    return lambda *_: os.write(1, words)
signal.signal(signal.SIGINT, says(b"int42\\n"))
signal.signal(signal.SIGCONT, says(b"cont42\\n"))
os.write(1, b"running\\n")
while True:
    time.sleep(0.1)
"""
program = tempfile.NamedTemporaryFile("w", suffix=".py")
program.write(PROGRAM)
program.flush()
expect("ready> ")
types("mayfly-agent run -- %s %s\n" % (sys.executable, program.name))
expect("running")
types("\x03")
expect("int42")
types("\x1a")
expect("Stopped")
# Of the jobs, one is stopped; and of the job's two processes both are.
types("echo job''s=$(jobs -l | grep -c Stop''ped) sta''tes=$(ps -o stat= -p $(jobs -p),$(pgrep -P $(jobs -p)) | cut -c1 | tr -d '\\n'):\n")
expect("jobs=1 states=TT:")
types("fg\n")
# The shell names the job before it gives it the terminal: a ^C in between would be the shell's. It continues it after.
expect("cont42")
types("\x03")
expect("int42")
types("\x1a")
expect("Stopped")
# A signal that is read when the program has gone already: what counts is how that ended.
types("kill -INT $(jobs -p); kill -KILL $(pgrep -P $(jobs -p)); fg; echo status=$((0+$?))\n")
expect("status=137")
types("exit\n")
os.waitpid(pid, 0)
print("ok: ^Z, fg, ^C at a terminal")
