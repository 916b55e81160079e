// The search on the front page, without a server or a kernel: what fdp_core.Index.search does, in plain JavaScript.
// search_mini.js (made by book/search_page.py) holds the numbers: mini's text tower, FDP's learned contexts and word
// clusters, and the vectors of all word regions of the rendered gallery; small photographs lie beside it.
"use strict";

const FDP_SEARCH = (() => {
  const MIN_SCORE = 0.32; // as in the search box of chapter 00: what scores less is not shown
  const SHOWN = 6; // photographs
  const START = 1, STOP = ".".charCodeAt(0), END = 127; // tokens; the others are the letters' own codes
  const HERE = document.currentScript.src; // files are named from here
  let model; // a promise of what `unpack` returns

  // ---- Numbers: base64 text -> Float32Array. Large tensors are integers of eight bits, deflated, and a scale for
  // each run of them; small ones are in single precision.

  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

  async function unpack(data) {
    const tensors = {};
    for (const [name, text] of Object.entries(data.numbers)) {
      if (name.endsWith("/codes")) {
        const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
        const codes = new Int8Array(await new Response(stream).arrayBuffer());
        const scales = new Float32Array(bytes(data.numbers[name.replace("/codes", "/scale")]).buffer);
        const run = codes.length / scales.length;
        tensors[name.replace("/codes", "")] = Float32Array.from(codes, (code, i) => code * scales[Math.floor(i / run)]);
      } else if (!name.endsWith("/scale")) {
        tensors[name] = new Float32Array(bytes(text).buffer);
      }
    }
    const width = tensors["ln_final.weight"].length;
    return { ...data, tensors, width, length: tensors["positional_embedding"].length / width, cache: new Map() };
  }

  // ---- The text tower: a causal transformer. A text of T tokens is one Float32Array of T rows.

  // x: T rows of `from` numbers -> T rows of as many as the bias has
  function linear(x, weight, bias, from) {
    const to = bias.length, rows = x.length / from, out = new Float32Array(rows * to);
    for (let o = 0; o < to; o++) {
      for (let t = 0; t < rows; t++) {
        let sum = bias[o];
        for (let i = 0, w = o * from, v = t * from; i < from; i++) sum += weight[w + i] * x[v + i];
        out[t * to + o] = sum;
      }
    }
    return out;
  }

  function layerNorm(x, weight, bias) {
    const width = weight.length, out = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let mean = 0, variance = 0;
      for (let i = 0; i < width; i++) mean += x[start + i] / width;
      for (let i = 0; i < width; i++) variance += (x[start + i] - mean) ** 2 / width;
      for (let i = 0; i < width; i++) {
        out[start + i] = ((x[start + i] - mean) / Math.sqrt(variance + 1e-5)) * weight[i] + bias[i];
      }
    }
    return out;
  }

  function gelu(x) { // with the error function of Abramowitz and Stegun, 7.1.26, right to 1.5e-7
    const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
    const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    const erf = 1 - series * Math.exp(-z * z);
    return 0.5 * x * (1 + (x < 0 ? -erf : erf));
  }

  // qkv: T rows of query, key and value side by side -> T rows; a token sees itself and those before it
  function attention(qkv, width, heads) {
    const rows = qkv.length / (3 * width), size = width / heads, out = new Float32Array(rows * width);
    for (let head = 0; head < heads; head++) {
      for (let t = 0; t < rows; t++) {
        const query = t * 3 * width + head * size, weights = [];
        for (let s = 0; s <= t; s++) {
          const key = s * 3 * width + width + head * size;
          let product = 0;
          for (let i = 0; i < size; i++) product += qkv[query + i] * qkv[key + i];
          weights.push(product / Math.sqrt(size));
        }
        const largest = Math.max(...weights), powers = weights.map(weight => Math.exp(weight - largest));
        const total = powers.reduce((a, b) => a + b);
        for (let s = 0; s <= t; s++) {
          const value = s * 3 * width + 2 * width + head * size;
          for (let i = 0; i < size; i++) out[t * width + head * size + i] += (powers[s] / total) * qkv[value + i];
        }
      }
    }
    return out;
  }

  const add = (x, y) => x.map((value, i) => value + y[i]);

  // tokens: numbers, or a learned vector in the place of a token -> the text's vector, of no special length
  function encode({ tensors, width, heads }, tokens) {
    let x = new Float32Array(tokens.length * width);
    tokens.forEach((token, t) => {
      const table = tensors["token_embedding.weight"];
      x.set(typeof token === "number" ? table.subarray(token * width, (token + 1) * width) : token, t * width);
    });
    x = add(x, tensors["positional_embedding"]);
    for (let block = 0; `transformer.resblocks.${block}.ln_1.weight` in tensors; block++) {
      const get = name => tensors[`transformer.resblocks.${block}.${name}`];
      const normal = layerNorm(x, get("ln_1.weight"), get("ln_1.bias"));
      const seen = attention(linear(normal, get("attn.in_proj_weight"), get("attn.in_proj_bias"), width), width, heads);
      x = add(x, linear(seen, get("attn.out_proj.weight"), get("attn.out_proj.bias"), width));
      const again = layerNorm(x, get("ln_2.weight"), get("ln_2.bias"));
      const wide = linear(again, get("mlp.c_fc.weight"), get("mlp.c_fc.bias"), width);
      x = add(x, linear(wide.map(gelu), get("mlp.c_proj.weight"), get("mlp.c_proj.bias"), 4 * width));
    }
    const last = layerNorm(x.subarray(-width), tensors["ln_final.weight"], tensors["ln_final.bias"]);
    const projection = tensors["text_projection"], out = new Float32Array(projection.length / width);
    last.forEach((value, i) => out.forEach((_, o) => { out[o] += value * projection[i * out.length + o]; }));
    return out;
  }

  // ---- What a query is: fdp_core.weights.CharTokenizer, FDP.encode_queries and fdp_core.retrieval.vectors.query_parts

  const SPACES = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/; // Python's str.split
  const split = text => text.split(SPACES).filter(word => word);

  // Does a mark combine with the letter before it (has it a combining class)? Then normal form reorders it.
  const combines = mark => (mark + "\u0334").normalize("NFD") === "\u0334" + mark
    || ("\u0345" + mark).normalize("NFD") === mark + "\u0345" || mark === "\u0334" || mark === "\u0345";

  function plain(text) { // lower case, no accents, single spaces
    text = text.toLowerCase().normalize("NFKD").toLowerCase().normalize("NFKD");
    return split([...text].filter(letter => !(/\p{M}/u.test(letter) && combines(letter))).join("")).join(" ");
  }

  const unknown = text => [...new Set(plain(text).match(/[^\x20-\x7e]/gu))].sort().join("");

  // a unit vector: the word behind the learned context of its kind, which the nearer cluster centre decides
  function encodeQuery(model, text) {
    if (model.cache.has(text)) return model.cache.get(text);
    const { tensors, width, length } = model;
    const letters = [...plain(text)].map(letter => letter.charCodeAt(0));
    const bare = encode(model, [START, ...letters.slice(0, length - 2), END]);
    const [function_, content] = [0, 1].map(kind =>
      bare.reduce((sum, value, i) => sum + (value - tensors["centres"][kind * bare.length + i]) ** 2, 0));
    const context = tensors[function_ <= content ? "function" : "content"], learned = [];
    for (let i = 0; i < context.length; i += width) learned.push(context.subarray(i, i + width));
    const room = length - 3 - learned.length;
    const vector = encode(model, [START, ...learned, ...letters.slice(0, room), STOP, END]);
    const norm = Math.hypot(...vector), unit = vector.map(value => value / norm);
    model.cache.set(text, unit);
    return unit;
  }

  // ---- Search: a photograph's score is the best of its regions' cosines, each less its handicap; a phrase is asked
  // for as a whole and word by word, half and half.

  async function search(text, count = SHOWN, minScore = MIN_SCORE) {
    if (!split(text).length) return { message: "Type a word or a phrase.", hits: [] };
    if (/^[\p{C}\p{Z}\p{M}]*$/u.test(text)) return { message: "This shows no letter.", hits: [] };
    if (unknown(text)) return { message: `mini cannot spell ${unknown(text)}; it knows Latin letters.`, hits: [] };
    model ||= unpack(FDP_DATA);
    const ready = await model, { tensors, photos } = ready;
    const words = split(text), parts = words.length > 1 ? [text, ...words] : [text];
    const queries = parts.map(part => encodeQuery(ready, part)), width = queries[0].length;
    const hits = photos.map((photo, row) => {
      let score = 0, region = 0;
      queries.forEach((query, part) => {
        let best = -Infinity;
        for (let r = tensors["starts"][row]; r < tensors["starts"][row + 1]; r++) {
          let product = tensors["handicaps"][r];
          for (let i = 0; i < width; i++) product += tensors["vectors"][r * width + i] * query[i];
          if (product > best) {
            best = product;
            if (part === 0) region = r;
          }
        }
        score += best * (queries.length === 1 ? 1 : part === 0 ? 0.5 : 0.5 / words.length);
      });
      return { id: photo.id, row, score: Math.fround(score), corners: [...tensors["corners"].subarray(8 * region, 8 * region + 8)] };
    });
    hits.sort((a, b) => b.score - a.score || a.row - b.row);
    return { message: "", hits: hits.slice(0, count).filter(hit => hit.score >= minScore) };
  }

  // ---- The page

  function draw(photo, hit, rank) {
    const [wide, high] = photo.size;
    const centre = [0, 1].map(axis => [0, 2, 4, 6].reduce((sum, i) => sum + hit.corners[i + axis] / 4, 0));
    const points = hit.corners.map((value, i) => value + 0.012 * wide * Math.sign(value - centre[i % 2])); // around it
    const polygon = look => `<polygon class="${look}" points="${points}"/>`;
    const frame = Number.isNaN(points[0]) ? "" : polygon("edge") + polygon("line"); // to be seen on any ground
    const item = document.createElement("li");
    item.innerHTML = `<div><img class="dark-light" width="${wide}" height="${high}">`
      + `<svg viewBox="0 0 ${wide} ${high}" aria-hidden="true">${frame}</svg></div><span></span>`;
    const image = item.querySelector("img");
    image.src = new URL(photo.file, HERE);
    image.alt = `Rank ${rank}: a rendered scene with the words ${photo.words}`;
    image.title = photo.words;
    item.querySelector("span").textContent = hit.score.toFixed(2);
    return item;
  }

  function start(form) {
    const field = form.querySelector("input"), said = form.querySelector("output"), row = form.querySelector("ol");
    let asked = 0, timer;
    async function answer() {
      const mine = ++asked, found = await search(field.value).catch(
        error => ({ message: `The search does not run in this browser: ${error.message}`, hits: [] }));
      if (mine !== asked) return; // something else was typed meanwhile
      const many = found.hits.length === 1 ? "1 photograph" : `${found.hits.length} photographs`;
      said.textContent = found.message || (found.hits.length ? `${many}, best first` : "nothing found");
      row.replaceChildren(...found.hits.map((hit, i) => draw(FDP_DATA.photos[hit.row], hit, i + 1)));
    }
    field.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(answer, 120); });
    form.addEventListener("submit", event => { event.preventDefault(); clearTimeout(timer); answer(); });
    form.hidden = false;
    answer();
  }

  document.querySelectorAll("form.fdp-search").forEach(start);
  return { search };
})();
