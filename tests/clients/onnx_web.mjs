// ln P of every id after each id of a text, by onnxruntime-web in node:  node onnx_web.mjs FILE.onnx TEXT OUTCOME.json
import {readFileSync, writeFileSync} from "node:fs";
import * as ort from "onnxruntime-web";
import {Model} from "./model.mjs";

const [file, textFile, outcome] = process.argv.slice(2);
ort.env.wasm.numThreads = 1;
const model = await Model.load(ort, readFileSync(file));
const ids = model.encode(readFileSync(textFile, "utf8"));
const read = [];
let state = model.start(), logProbs;
for (const id of [0, ...ids]) {
    ({logProbs, state} = await model.step(id, state));
    read.push([...logProbs]);
}
let written = "";
for await (const piece of model.write("First", 0.7)) if ((written += piece).length > 100) break;
writeFileSync(outcome, JSON.stringify({ids, logProbs: read, written}));
