// Opens a report in headless Chromium, and checks what a reader meets: no request, no error, no script of a log, no
// sideways scroll at three widths, light, dark and printed, tables that sort by mouse and keyboard.
//
// Usage: look.mjs PAGE.html [DIRECTORY of screenshots]

import assert from "node:assert/strict";
import path from "node:path";
import { pathToFileURL } from "node:url";

import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const [file, screenshots] = process.argv.slice(2);
const url = pathToFileURL(path.resolve(file)).href;
const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(),
  args: ["--no-sandbox"], // which root needs
  headless: "shell",
});

const isInjected = (page) => page.evaluate(() => "injected" in window);

async function open(width, scheme) {
  const page = await browser.newPage();
  const unwanted = [];
  page.on("console", (message) => unwanted.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => unwanted.push(`error: ${error.message}`));
  page.on("request", (request) => request.url() === url || unwanted.push(`request: ${request.url()}`));
  page.on("dialog", (dialog) => unwanted.push(`dialog: ${dialog.message()}`));
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(url);
  return { page, unwanted };
}

const column = (page, number) =>
  page.$$eval(
    `table[aria-labelledby="endpoints"] tbody tr > :nth-child(${number})`,
    (cells) => cells.map((cell) => cell.textContent),
  );
const numbers = (texts) => texts.map((text) => Number(text.replaceAll(",", "")));

async function checkSort(page) {
  const buttons = await page.$$('table[aria-labelledby="endpoints"] thead button');
  assert.equal(buttons.length, 4, "a button in each head of the endpoints");
  const before = numbers(await column(page, 2));
  assert.deepEqual(before, before.toSorted((a, b) => b - a), "the most frequent endpoint is the first");
  await buttons[1].click();
  assert.deepEqual(numbers(await column(page, 2)), before.toReversed(), "sorted the other way round by a click");
  await buttons[0].focus();
  await page.keyboard.press("Enter");
  const names = await column(page, 1);
  assert.equal(names.length, before.length);
  const sorted = names.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true }));
  assert.deepEqual(names, sorted, "sorted by name with the keyboard");
  const states = await page.$$eval('table[aria-labelledby="endpoints"] thead [aria-sort]', (heads) =>
    heads.map((head) => [head.textContent, head.getAttribute("aria-sort")]),
  );
  assert.deepEqual(states, [["Endpoint", "ascending"]]);
}

const shown = new Set();
for (const scheme of ["light", "dark"]) {
  for (const width of [400, 1000, 1600]) {
    const { page, unwanted } = await open(width, scheme);
    const size = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    assert.ok(size[0] <= size[1], `${scheme}, ${width}: ${size[0]} pixels wide`);
    const look = await page.evaluate(() => ({
      background: getComputedStyle(document.body).backgroundColor,
      bars: [...document.querySelectorAll(".chart")]
        .filter((chart) => chart.offsetParent)
        .map((chart) => getComputedStyle(chart.querySelector('rect[fill="#010101"]')).fill),
      texts: [...document.querySelectorAll("th.text")].length,
    }));
    assert.equal(look.bars.length, 1, "one chart is shown");
    assert.notEqual(look.bars[0], "rgb(1, 1, 1)", "the chart has the page's colors");
    assert.ok(look.texts > 10);
    shown.add(look.background);
    if (screenshots) await page.screenshot({ path: path.join(screenshots, `${scheme}-${width}.png`) });
    await checkSort(page);
    assert.equal(await isInjected(page), false, "a script of the log ran");
    assert.deepEqual(unwanted, [], `${scheme}, ${width}`);
    await page.close();
  }
}
assert.equal(shown.size, 2, "light and dark differ");

const { page, unwanted } = await open(1000, "dark");
const texts = await page.$$eval("th.text", (cells) => cells.map((cell) => cell.textContent));
for (const text of ["/<script>", '"><img src=x onerror=window.injected=1>', "\\u{202e}moc.elpmaxe\\u{1b}[31m", "{{7*7}}"]) {
  assert.ok(texts.some((shown) => shown.includes(text)), `${text} is shown as text`);
}
const outline = await page.$$eval("h1, h2", (heads) => heads.map((head) => head.tagName));
assert.equal(outline.filter((name) => name === "H1").length, 1);
assert.equal(await page.$$eval("table", (tables) => tables.every((table) => document.getElementById(table.getAttribute("aria-labelledby")))), true);
await page.emulateMediaType("print");
const ink = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]);
assert.deepEqual(ink, ["rgb(255, 255, 255)", "rgb(0, 0, 0)"], "black on white when printed, from dark too");
if (screenshots) await page.screenshot({ path: path.join(screenshots, "print.png") });

// Without scripts, the page is complete, and nothing looks as if it sorted.
await page.setJavaScriptEnabled(false);
await page.goto(url);
assert.equal((await page.$$("thead button")).length, 0);
assert.ok((await page.$$("tbody tr")).length > 50);
assert.deepEqual(unwanted, []);
await browser.close();
console.log("6 views, print and no script: no request, no error, no sideways scroll; tables sort");
