// What llama.cpp makes of a GGUF file, by node-llama-cpp: ids of a text, its text again, and ln P of every id after each.
//
//     node llama_cpp.mjs FILE.gguf TEXT OUTCOME.json
import {readFileSync, writeFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const [file, textFile, outcome] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const ids = model.tokenize(readFileSync(textFile, "utf8"));
const cache = {flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"};  // not 16 bits
const context = await model.createContext({contextSize: model.trainContextSize + 8, ...cache});
const read = [model.tokens.bos, ...ids].slice(0, model.trainContextSize);
const asked = read.map((id) => [id, {generateNext: {probabilities: true}}]);
const answers = await context.getSequence().controlledEvaluate(asked);
const logProbs = answers.map(({next}) => {
    const row = [];
    for (const [id, probability] of next.probabilities) row[id] = Math.log(probability);
    return row;
});
writeFileSync(outcome, JSON.stringify({ids, read, logProbs, text: model.detokenize(ids)}));
process.exit(0);
