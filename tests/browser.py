"""Headless Chromium, spoken to over a pipe (the DevTools protocol): a page is looked at with nothing to install."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}  # key → Windows key code, the text that it types


def find():
    """The path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in one browser. ``events`` holds all that the browser told, oldest first."""

    def __init__(self, width=1280, height=800, *, dark=False, still=False):
        self.folder = tempfile.TemporaryDirectory()
        options = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--remote-debugging-pipe"]
        self.events, self.number, self.rest = [], 0, b""
        self._start([find(), *options, f"--user-data-dir={self.folder.name}", "about:blank"])
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        wishes = {"prefers-color-scheme": "dark" if dark else "light"}
        wishes["prefers-reduced-motion"] = "reduce" if still else "no-preference"
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def _start(self, command):
        """Chromium reads fd 3 and writes fd 4; ours are first moved out of the way of those two."""
        (theirs, self.to), (self.back, writes) = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs, writes)]
        self.process = subprocess.Popen(
            command,
            preexec_fn=lambda: [os.dup2(end, 3 + i) for i, end in enumerate(ends)],
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs, writes, *ends):
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        self.folder.cleanup()

    # ---- what a test does

    def open(self, path):
        """Loads a file and waits until it has loaded."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.until("document.readyState == 'complete' && location.protocol == 'file:'")

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def eval(self, script):
        """The value of a JavaScript expression; a promise is waited for."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script, seconds=60.0):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.eval(script):
            assert time.monotonic() < end, f"still not true after {seconds} s: {script}"
            time.sleep(0.05)

    def press(self, key, *, shift=False):
        code, text = KEYS[key]
        about = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path, *, whole=True):
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def told(self, method):
        """The parameters of every event of that name so far."""
        self.eval("0")  # whatever was on its way has then arrived
        return [event["params"] for event in self.events if event["method"] == method]

    # ---- the protocol

    def call(self, method, **params):
        return self._call(method, self.session, **params)

    def _call(self, method, session=None, **params):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds=60.0):
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.back], [], [], seconds)
            assert ready, "the browser is silent"
            more = os.read(self.back, 1 << 20)
            if not more:
                raise OSError("the browser is gone")
            self.rest += more
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)
