// The example page in a browser without a display: it loads model.onnx, writes, stops, and asks no other host.
//
//     node onnx_page.mjs http://127.0.0.1:8000/index.html /usr/bin/chromium
import puppeteer from "puppeteer-core";

const [url, executablePath] = process.argv.slice(2);
const browser = await puppeteer.launch({executablePath, args: ["--no-sandbox"]});
const page = await browser.newPage();
const hosts = new Set(), problems = [];
page.on("request", (request) => hosts.add(new URL(request.url()).host));
page.on("pageerror", (problem) => problems.push(problem.message));
const text = () => page.$eval("#text", (element) => element.textContent);
await page.goto(url);
await page.waitForFunction(() => document.getElementById("text").textContent.includes(" ids of "), {timeout: 60_000});
console.log(await text());
await page.click("#write");
await new Promise((resolve) => setTimeout(resolve, 3_000));
await page.click("#stop");
await page.waitForFunction(() => !document.getElementById("write").disabled);
const written = await text();
await browser.close();
if (problems.length || hosts.size !== 1 || written.length < 50) throw new Error(`${problems} ${[...hosts]} ${written}`);
console.log(`${written.length} characters, no other host than ${[...hosts]}: ${JSON.stringify(written.slice(0, 100))}`);
