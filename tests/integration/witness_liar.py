"""A witness that lies, for test_witness.sh: PORT FILE; the first word of FILE says how, now.
  signature  answers with another head's cosignature   other   with a stranger's
  ahead      409 with a larger size                     loop    409 with whatever was not named
  same       409 with the size that was named           junk    409 with no size, 200 with noise in turn
  hang       never                                      huge    200 without end"""
import base64, http.server, sys, time

port, mode = int(sys.argv[1]), sys.argv[2]
count = 0
class Liar(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def answer(self, status, body, kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        global count
        count += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        old = int(body.split(b"\n")[0].split()[1])
        how, name, line = (open(mode).read().split("\n") + ["", ""])[:3]
        size = lambda n: self.answer(409, b"%d\n" % n, "text/x.tlog.size")
        if how == "signature": self.answer(200, line.encode() + b"\n")
        elif how == "other": self.answer(200, "\u2014 stranger.example AAAAAAAA\n".encode())
        elif how == "ahead": size(10**9)
        elif how == "loop": size(old ^ 1)
        elif how == "same": size(old)
        elif how == "junk": self.answer(409 if count % 2 else 200, b"\x00\xffnoise" * 100)
        elif how == "hang":
            self.asked(how)
            time.sleep(30)
            return
        elif how == "huge":
            self.send_response(200)
            self.end_headers()
            try:
                while True: self.wfile.write(b"x" * 65536)
            except OSError: self.close_connection = True
        self.asked(how)
    def asked(self, how):
        with open(mode + ".asked", "a") as f: f.write(how + "\n")

server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Liar)
server.daemon_threads = True
server.serve_forever()
