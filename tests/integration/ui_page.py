"""A page in headless Chromium, for ui_test.py."""
import os
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

WAIT = 30  # seconds until something that must come counts as missing


def eventually(is_so):
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.1)


class Page:
    def __init__(self, driver, url):
        self.driver, self.url = driver, url + "/ui/"

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def open(self, page=""):
        self.driver.get("about:blank")
        self.driver.get(self.url + "#/" + page)
        self.settled()

    def go(self, page):
        self.js("location.hash = '#/' + arguments[0]", page)
        self.settled()

    def settled(self):
        """Until nothing is being checked any more, and the page is drawn."""
        self.until("return document.querySelector('#main h1') && !document.querySelector('.busy') && location.href")

    def until(self, script, *args):
        end = time.monotonic() + WAIT
        while True:
            got = self.js(script, *args)
            if got:
                return got
            if time.monotonic() > end:
                raise AssertionError(f"did not come: {script} {args}\n{self.text()}")
            time.sleep(0.05)

    def text(self, selector="body"):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def says(self, words, selector="body"):
        """Waits for the words; letters of any size."""
        self.until("return (document.querySelector(arguments[0])?.innerText ?? '').toLowerCase().includes(arguments[1].toLowerCase())", selector, words)

    def state(self, selector):
        """The verdict there: good, bad, …"""
        return self.until("return document.querySelector(arguments[0] + ' [data-state]')?.dataset.state", selector)

    def alarm(self):
        return self.text("#alarm")

    def fill(self, selector, text):
        field = self.driver.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)
        return field

    def click(self, selector):
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def forget(self):
        self.js("localStorage.clear()")

    def complaints(self):
        """What the console has against the page: broken rules of its own policy, exceptions."""
        return [m["message"] for m in self.driver.get_log("browser") if "Failed to load resource" not in m["message"]]


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for a in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors", "--no-first-run", "--window-size=1200,900", f"--user-data-dir={profile}"):
        options.add_argument(a)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    driver.set_script_timeout(120)
    return driver
