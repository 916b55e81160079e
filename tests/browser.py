"""A browser without a screen, for tests that look at pages."""

import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 70  # seconds until a hung browser fails the test


class Page:
    """A page of a browser without a screen, spoken to by Chrome's DevTools protocol."""

    def __init__(self, profile):
        import websocket

        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        options += ["--window-size=1400,1600", "--remote-allow-origins=*", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen([CHROMIUM, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        told = profile / "DevToolsActivePort"
        until(told.is_file)
        until(lambda: len(told.read_text().splitlines()) == 2)
        address = f"http://127.0.0.1:{told.read_text().splitlines()[0]}/json"
        pages = json.load(urllib.request.urlopen(address, timeout=PATIENCE))
        target = next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"]
        self.socket, self.numbers = websocket.create_connection(target, timeout=PATIENCE), itertools.count(1)

    def call(self, method, **values):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": values}))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            pass
        return answer.get("result", answer)

    def js(self, source):
        told = self.call("Runtime.evaluate", expression=source, returnByValue=True, awaitPromise=True)
        return told.get("result", {}).get("value")

    def close(self):
        with contextlib.suppress(Exception):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()


def until(true, step=0.2):
    end = time.monotonic() + PATIENCE
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(step)
    return value
