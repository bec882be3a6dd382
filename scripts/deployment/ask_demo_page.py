"""Ask the page of `export demo=true` in headless Chromium, and compare its answers.

    python scripts/deployment/ask_demo_page.py FOLDER ANSWERS COUNT DEVICE REQUIRED

FOLDER contains `model` and `demo`; ANSWERS is answers.jsonl of `write_answers.py`. Ends with exit
code 1 if the page does not answer or, with REQUIRED=1, if an answer differs.
"""

import functools
import json
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = {
    "wasm": ["--no-sandbox"],
    "webgpu": [
        "--no-sandbox",
        "--enable-unsafe-webgpu",
        "--use-webgpu-adapter=swiftshader",
        "--enable-features=Vulkan",
        "--enable-unsafe-swiftshader",
    ],
}
TIMEOUT_MS = 120_000


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def main(folder: str, answers: str, count: str, device: str, required: str) -> int:
    lines = [json.loads(line) for line in Path(answers).read_text().splitlines()][: int(count)]
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answered, equal = ask(f"http://127.0.0.1:{server.server_port}/demo/", lines, device)
    finally:
        server.shutdown()
    print(f"page, {device}: {equal} of {len(lines)} answers identical", flush=True)
    return int(answered < len(lines) or (required == "1" and equal < len(lines)))


def ask(address: str, lines: list[dict[str, str]], device: str) -> tuple[int, int]:
    """Return the numbers of answers and of identical ones."""
    answered = equal = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS[device]
        )
        page = browser.new_page()
        page.on("pageerror", lambda error: print(error, file=sys.stderr))
        page.goto(address)
        page.select_option("#device", device)
        for line in lines:
            page.set_input_files("#file", line["image"])
            page.fill("#prompt", line["prompt"])
            page.click("#ask")
            page.wait_for_selector("#ask:enabled", timeout=TIMEOUT_MS)
            status = page.inner_text("#status")
            if status.startswith("Answered"):
                answered += 1
            else:
                print(status, file=sys.stderr)
            equal += page.text_content("#answer") == line["answer"]
        browser.close()
    return answered, equal


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
