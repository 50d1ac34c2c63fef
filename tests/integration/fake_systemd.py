#!/usr/bin/python3
"""As much of systemd as a daemon with a descriptor store needs: runs a command with NOTIFY_SOCKET, keeps the descriptors
it hands over by FDSTORE=1, and passes them to the next start (sd_notify(3), sd_listen_fds(3)).

    fake_systemd.py SOCKET-PATH LOG COMMAND...

Prints "pid N" at each start and each datagram's text. SIGUSR1: kill the command with SIGKILL and start it again.
SIGTERM: ends all.
"""
import array
import os
import signal
import socket
import sys
import threading

path, log, command = sys.argv[1], sys.argv[2], sys.argv[3:]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
store = {}
child = 0


def say(*words):
    print(*words, flush=True)


def listen():
    while True:
        text, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(64))
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data)
        fields = dict(line.split("=", 1) for line in text.decode().split("\n") if "=" in line)
        name = fields.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in fields:
            for fd in store.pop(name, []):
                os.close(fd)
        if "FDSTORE" in fields:
            store.setdefault(name, []).extend(fds)
        say(text.decode().replace("\n", " "), len(fds))


def start():
    global child
    child = os.fork()
    if child:
        say("pid", child)
        return
    names, high = [], []
    for name, fds in store.items():
        for fd in fds:
            names.append(name)
            high.append(os.dup2(fd, 200 + len(high), inheritable=False))
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number)
    os.environ["NOTIFY_SOCKET"] = path
    if names:
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.execvp(command[0], command)


def again(*_):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    start()


def end(*_):
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    os._exit(0)


signal.signal(signal.SIGUSR1, again)
signal.signal(signal.SIGTERM, end)
threading.Thread(target=listen, daemon=True).start()
start()
while True:
    signal.pause()
