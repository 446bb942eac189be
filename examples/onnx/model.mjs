// A model that `charlm export --format onnx` wrote, in JavaScript. `ort` is the module onnxruntime-web.

export class Model {
    static async load(ort, bytes) {
        return new Model(ort, await ort.InferenceSession.create(bytes), JSON.parse(metadata(bytes, "charlm")));
    }

    constructor(ort, session, {pieces, seen, tokenizer}) {
        Object.assign(this, {ort, session, pieces, seen, tokenizer});
        this.ids = new Map(pieces.map((piece, id) => [piece, id]));
        for (const [id, piece] of pieces.entries()) if (id > 256) this.ids.set(piece, id);  // rather than a single byte
        this.longest = pieces.reduce((longest, piece) => Math.max(longest, piece.length), 1);
    }

    // The ids of a text, the longest piece first; for SentencePiece that is a cut, not always the likeliest.
    encode(text) {
        const bytes = String.fromCharCode(...new TextEncoder().encode(text));
        const ids = [];
        for (let at = 0; at < bytes.length;) {
            let size = Math.min(this.longest, bytes.length - at);
            while (!this.ids.has(bytes.slice(at, at + size))) size--;
            ids.push(this.ids.get(bytes.slice(at, at + size)));
            at += size;
        }
        return ids;
    }

    // The bytes that an id stands for.
    bytes(id) {
        return Uint8Array.from(this.pieces[id], (character) => character.charCodeAt(0));
    }

    // The state before anything has been read: zeros, and caches without a position.
    start() {
        const state = {};
        for (const {name, type, shape} of this.session.inputMetadata) {
            if (!name.startsWith("state_")) continue;
            const sizes = shape.map((size, axis) => (typeof size === "number" ? size : axis === 0 ? 1 : 0));
            const count = sizes.reduce((product, size) => product * size, 1);
            state[name] = new this.ort.Tensor(type, type === "int64" ? new BigInt64Array(count) : new Float32Array(count), sizes);
        }
        return state;
    }

    // ln P of every id after the given one, and the state after it. A text begins with id 0.
    async step(id, state) {
        const tokens = new this.ort.Tensor("int64", BigInt64Array.of(BigInt(id)), [1, 1]);
        const {log_probs, ...next} = await this.session.run({tokens, ...state});
        const named = Object.entries(next).map(([name, tensor]) => [name.replace("next_", "state_"), tensor]);
        return {logProbs: log_probs.data, state: Object.fromEntries(named)};
    }

    // An id drawn with probability P^(1/temperature), of those that training has shown.
    draw(logProbs, temperature, random = Math.random) {
        const best = logProbs.reduce((most, value, id) => (this.seen[id] ? Math.max(most, value) : most), -Infinity);
        const weights = logProbs.map((value, id) => (this.seen[id] ? Math.exp((value - best) / temperature) : 0));
        let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
        const drawn = weights.findIndex((weight) => (left -= weight) < 0);
        return drawn < 0 ? logProbs.indexOf(best) : drawn;
    }

    // Goes on from a prompt: pieces of text, without an end.
    async *write(prompt, temperature) {
        const decoder = new TextDecoder();
        let {logProbs, state} = await this.step(0, this.start());
        for (const id of this.encode(prompt)) ({logProbs, state} = await this.step(id, state));
        while (true) {
            const id = this.draw(logProbs, temperature);
            yield decoder.decode(this.bytes(id), {stream: true});
            ({logProbs, state} = await this.step(id, state));
        }
    }
}

// An entry of metadata_props in an ONNX file, which onnxruntime-web does not show: field 14 of the protocol buffer.
function metadata(file, key) {
    for (const [field, content] of fields(file)) {
        if (field !== 14) continue;
        const entry = new Map([...fields(content)].map(([number, bytes]) => [number, new TextDecoder().decode(bytes)]));
        if (entry.get(1) === key) return entry.get(2);
    }
    throw new Error("not a file of charlm's: it has no metadata by that name");
}

// The fields of a message that have a length: number and bytes.
function* fields(bytes) {
    let at = 0;
    const varint = () => {
        for (let value = 0, factor = 1; ; factor *= 128) {
            value += (bytes[at] & 127) * factor;
            if (bytes[at++] < 128) return value;
        }
    };
    while (at < bytes.length) {
        const tag = varint();
        const size = varint();  // or the number itself, of type 0
        if (tag % 8 === 2) {
            yield [Math.floor(tag / 8), bytes.subarray(at, at + size)];
            at += size;
        }
    }
}
