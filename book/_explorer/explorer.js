/* The explorer: turn T, epsilon and the threshold over recorded scores, in the reader's browser, without a network.

   A network's data is a script (odinlib/book/explorer.py) that calls odinExplorer(key, data), a foreign set's scores one
   that calls odinExplorerScores(key, set, scores); each is loaded when it is first chosen, from a file as well as from
   a server. Levels are steps of a setting's scale; measures follow
   odinlib/metrics.py, ties included. */
"use strict";
(() => {
  const networks = new Map();
  window.odinExplorer = (key, data) => networks.set(key, data);
  window.odinExplorerScores = (key, name, scores) => {
    networks.get(key).sets.find((set) => set.name === name).scores = scores;
  };

  const MEASURES = [
    ["fpr", "FPR at 95 % TPR ↓"],
    ["error", "Detection error ↓"],
    ["auroc", "AUROC ↑"],
    ["auprIn", "AUPR-In ↑"],
    ["auprOut", "AUPR-Out ↑"],
  ];

  // --- Data ----------------------------------------------------------------------------------------------------------

  function read(root, name) {
    return new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${root}explorer-data/${name}.js`;
      script.onload = done;
      script.onerror = () => failed(new Error(`${script.src} cannot be read`));
      document.head.append(script);
    });
  }

  async function load(root, key) {
    if (!networks.has(key)) await read(root, key);
    return networks.get(key);
  }

  /* The sorted levels of a set at every setting, [settings * images]. */
  async function unpacked(root, key, set, settings) {
    if (set.levels) return set.levels;
    if (!set.scores) await read(root, `${key}/${set.name}`);
    const packed = Uint8Array.from(atob(set.scores), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const levels = new Uint16Array(settings * set.images);
    for (let place = 0, at = 0, level = 0; place < levels.length; place++) {
      if (place % set.images === 0) level = 0;
      while (bytes[at] === 255) level += bytes[at++];
      level += bytes[at++];
      levels[place] = level;
    }
    return (set.levels = levels);
  }

  // --- Measures ------------------------------------------------------------------------------------------------------

  /* How many of the sorted levels are below a level. */
  function below(sorted, level) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < level) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function measured(inside, outside, tpr) {
    const [n, m] = [inside.length, outside.length];
    const threshold = inside[n - Math.max(1, Math.ceil(tpr * n - 1e-9))];
    const fpr = 1 - below(outside, threshold) / m;
    let [auroc, auprIn, auprOut] = [0, 0, 0];
    for (const level of inside) {
      const [less, upto] = [below(outside, level), below(outside, level + 1)];
      auroc += (less + upto) / (2 * m * n);
      const accepted = n - below(inside, level);
      auprIn += accepted / (accepted + m - less) / n;
    }
    for (const level of outside) {
      const refused = below(outside, level + 1);
      auprOut += refused / (refused + below(inside, level + 1)) / m;
    }
    return { threshold, fpr, error: (below(inside, threshold) / n + fpr) / 2, auroc, auprIn, auprOut };
  }

  // --- Pictures ------------------------------------------------------------------------------------------------------

  const percent = (share) => (100 * share).toFixed(1);
  const round = (number) => Math.round(number * 10) / 10;

  function histogram(inside, outside, scale, threshold, titles) {
    const [width, height, bins] = [420, 220, 48];
    const per = scale.levels / bins;
    const counted = [inside, outside].map((sorted) => {
      const counts = new Array(bins).fill(0);
      for (const level of sorted) counts[Math.min(bins - 1, Math.floor(level / per))] += 1 / sorted.length;
      return counts;
    });
    const top = Math.max(...counted.flat());
    const x = (level) => round(30 + (level / scale.levels) * (width - 40));
    const y = (share) => round(10 + (1 - share / top) * (height - 50));
    const paths = counted.map((counts) => {
      const steps = counts.map((share, bin) => `L${x(bin * per)} ${y(share)}L${x((bin + 1) * per)} ${y(share)}`);
      return `M${x(0)} ${y(0)}${steps.join("")}L${x(scale.levels)} ${y(0)}Z`;
    });
    const value = (level) => (scale.low + (level / scale.levels) * (scale.high - scale.low)).toPrecision(3);
    const span = scale.high - scale.low;
    const power = 10 ** Math.floor(Math.log10(span / 5));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= 5);
    const ticks = [];
    for (let count = Math.ceil(scale.low / step); count * step <= scale.high; count += 1) {
      const level = ((count * step - scale.low) / span) * scale.levels;
      const number = Number((count * step).toPrecision(6));
      ticks.push(`<text x="${x(level)}" y="${height - 24}" text-anchor="middle">${number}</text>`);
    }
    return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Histograms of the score: ${titles.join(" and ")};
      the threshold is at ${value(threshold)}">
      <path class="in" d="${paths[0]}"/><path class="out" d="${paths[1]}"/>
      <line class="axis" x1="30" y1="${y(0)}" x2="${width - 10}" y2="${y(0)}"/>${ticks.join("")}
      <line class="delta" x1="${x(threshold)}" y1="6" x2="${x(threshold)}" y2="${y(0)}"/>
      <text x="${Math.min(x(threshold) + 4, width - 20)}" y="16">δ</text>
      <text x="${width / 2}" y="${height - 6}" text-anchor="middle">score g: higher is more familiar</text></svg>`;
  }

  function rocCurve(inside, outside, threshold) {
    const [size, edge] = [220, 30];
    const x = (share) => round(edge + share * (size - edge - 8));
    const y = (share) => round(8 + (1 - share) * (size - edge - 16));
    const at = (level) => [1 - below(outside, level) / outside.length, 1 - below(inside, level) / inside.length];
    const points = [];
    for (let place = inside.length - 1; place >= 0; place -= 5) points.push(at(inside[place]));
    points.push([1, 1]);
    const path = points.map(([fpr, tpr]) => `L${x(fpr)} ${y(tpr)}`).join("");
    const [fpr, tpr] = at(threshold);
    return `<svg viewBox="0 0 ${size} ${size}" role="img" aria-label="ROC curve; the threshold accepts ${percent(tpr)} % of
      the familiar and ${percent(fpr)} % of the foreign images">
      <path class="axis" d="M${x(0)} ${y(1)}V${y(0)}H${x(1)}" fill="none"/>
      <path class="chance" d="M${x(0)} ${y(0)}L${x(1)} ${y(1)}"/>
      <path class="curve" d="M${x(0)} ${y(0)}${path}"/><circle class="point" cx="${x(fpr)}" cy="${y(tpr)}" r="4.5"/>
      <text x="${x(0.5)}" y="${size - 4}" text-anchor="middle">FPR, 0 to 100 %</text>
      <text transform="translate(14 ${y(0.5)}) rotate(-90)" text-anchor="middle">TPR, 0 to 100 %</text></svg>`;
  }

  // --- Controls ------------------------------------------------------------------------------------------------------

  let count = 0;

  class Explorer {
    constructor(box) {
      this.box = box;
      this.small = "small" in box.dataset;
      const names = JSON.parse(box.dataset.networks);
      const id = `explorer-${++count}`;
      const options = names.map(([key, title]) => `<option value="${key}">${title}</option>`).join("");
      const range = (name, label) => `<div class="knob"><label for="${id}-${name}">${label}</label>
        <input type="range" id="${id}-${name}" name="${name}" min="0" value="0" step="1">
        <output for="${id}-${name}" name="${name}-told"></output></div>`;
      box.innerHTML = `<form class="knobs" aria-label="Settings of the explorer">
        <div class="knob"><label for="${id}-network">Network</label><select id="${id}-network" name="network">${options}</select></div>
        <div class="knob"><label for="${id}-set">Foreign set</label><select id="${id}-set" name="set"></select></div>
        ${range("t", "Temperature T")}${range("e", "Magnitude ε")}${range("d", "Threshold δ")}
        <div class="knob settings"><span id="${id}-marks">Go to</span>
        <div role="group" aria-labelledby="${id}-marks" class="marks"></div></div></form>
        <p class="said" role="status"></p>
        <div class="pictures"><figure class="scores"></figure>${this.small ? "" : '<figure class="roc"></figure>'}</div>
        <div class="numbers" role="region" tabindex="0" aria-label="Numbers of explorer ${count}"></div>`;
      this.form = box.querySelector("form");
      this.form.addEventListener("submit", (event) => event.preventDefault());
      this.form.addEventListener("input", (event) => this.turned(event.target.name));
      box.querySelector(".marks").addEventListener("click", (event) => this.goTo(event.target.dataset.mark));
      this.choose();
    }

    get(name) {
      return this.form.elements[name];
    }

    async choose() {
      const key = this.get("network").value;
      const data = await load(this.box.dataset.root, key);
      if (key !== this.get("network").value) return; // another one was chosen meanwhile
      const sets = data.sets.slice(1).map((set) => `<option value="${set.name}">${set.title}</option>`);
      this.get("set").innerHTML = sets.join("");
      this.get("t").max = data.temperatures.length - 1;
      this.get("e").max = data.epsilons.length - 1;
      this.get("d").max = data.levels - 1;
      await this.chooseSet();
    }

    async chooseSet() {
      const [key, name] = [this.get("network").value, this.get("set").value];
      const data = networks.get(key);
      const pair = [data.sets[0], data.sets.find((set) => set.name === name)];
      const settings = data.temperatures.length * data.epsilons.length;
      await Promise.all(pair.map((set) => unpacked(this.box.dataset.root, key, set, settings)));
      if (key !== this.get("network").value || name !== this.get("set").value) return;
      [this.familiar, this.set] = pair;
      this.data = data;
      const marks = Object.entries(this.set.marks).map(
        ([mark, [t, e]]) => `<button type="button" data-mark="${mark}">${mark}: T = ${t}, ε = ${e}</button>`,
      );
      this.box.querySelector(".marks").innerHTML = marks.join("");
      if (this.chosen) this.draw();
      else this.goTo("the paper's" in this.set.marks ? "the paper's" : "tuned here");
      this.chosen = true;
    }

    goTo(mark) {
      if (!(mark in this.set.marks)) return;
      const [t, e] = this.set.marks[mark];
      this.get("t").value = this.data.temperatures.indexOf(t);
      this.get("e").value = this.data.epsilons.indexOf(e);
      this.follows = true;
      this.draw();
    }

    turned(name) {
      if (name === "network") return this.choose();
      if (name === "set") return this.chooseSet();
      this.follows = name !== "d"; // a turn of T or epsilon takes the threshold along, at the TPR
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.draw());
    }

    levels(set, setting) {
      return set.levels.subarray(setting * set.images, (setting + 1) * set.images);
    }

    at(temperature, epsilon) {
      const setting = temperature * this.data.epsilons.length + epsilon;
      return [this.levels(this.familiar, setting), this.levels(this.set, setting), setting];
    }

    draw() {
      const { data, set, familiar } = this;
      const [t, e] = [Number(this.get("t").value), Number(this.get("e").value)];
      const [inside, outside, setting] = this.at(t, e);
      const found = measured(inside, outside, data.tpr);
      if (this.follows !== false) this.get("d").value = found.threshold;
      const threshold = Number(this.get("d").value);
      const scale = { low: data.low[setting], high: data.high[setting], levels: data.levels };
      const value = (scale.low + (threshold / scale.levels) * (scale.high - scale.low)).toPrecision(4);
      this.tell("t", `T = ${data.temperatures[t]}`);
      this.tell("e", `ε = ${data.epsilons[e]}`);
      const [tp, fp] = [inside.length - below(inside, threshold), outside.length - below(outside, threshold)];
      this.tell("d", `δ = ${value}: TPR ${percent(tp / inside.length)} %`);
      const marks = Object.entries(set.marks);
      const here = marks.filter(([, at]) => at[0] === data.temperatures[t] && at[1] === data.epsilons[e]);
      for (const button of this.box.querySelectorAll(".marks button"))
        button.setAttribute("aria-pressed", String(here.some(([mark]) => mark === button.dataset.mark)));
      this.box.querySelector(".said").textContent =
        `At T = ${data.temperatures[t]}, ε = ${data.epsilons[e]}${here.length ? ` (${here.map(([m]) => m).join(", ")})` : ""}: ` +
        `FPR at ${100 * data.tpr} % TPR ${percent(found.fpr)} %, AUROC ${percent(found.auroc)} %. ` +
        `The threshold shown accepts ${tp} of ${inside.length} images of ${familiar.title} ` +
        `and ${fp} of ${outside.length} of ${set.title}.`;
      this.box.querySelector(".scores").innerHTML =
        histogram(inside, outside, scale, threshold, [familiar.title, set.title]) +
        `<figcaption><span class="key in"></span> ${familiar.title} <span class="key out"></span> ${set.title} (dashed)</figcaption>`;
      const roc = this.box.querySelector(".roc");
      if (roc) roc.innerHTML = rocCurve(inside, outside, threshold) + "<figcaption>ROC curve; the dot is δ</figcaption>";
      this.table(found, marks, inside.length, outside.length, tp, fp);
    }

    tell(name, text) {
      this.get(name).setAttribute("aria-valuetext", text);
      this.get(`${name}-told`).value = text;
    }

    table(found, marks, n, m, tp, fp) {
      const { data } = this;
      const columns = [["here", found]];
      for (const [mark, [t, e]] of marks) {
        const [inside, outside] = this.at(data.temperatures.indexOf(t), data.epsilons.indexOf(e));
        columns.push([mark, measured(inside, outside, data.tpr)]);
      }
      const head = columns.map(([title]) => `<th scope="col">${title}</th>`).join("");
      const rows = MEASURES.map(
        ([key, title]) => `<tr data-measure="${key}"><th scope="row">${title}</th>${columns
          .map(([, values]) => `<td>${percent(values[key])}</td>`)
          .join("")}</tr>`,
      );
      const confusion = `<table class="confusion"><caption>Images at this threshold</caption>
        <thead><tr><td></td><th scope="col">accepted</th><th scope="col">refused</th></tr></thead><tbody>
        <tr><th scope="row">${this.familiar.title}</th><td>${tp}</td><td>${n - tp}</td></tr>
        <tr><th scope="row">${this.set.title}</th><td>${fp}</td><td>${m - fp}</td></tr></tbody></table>`;
      this.box.querySelector(".numbers").innerHTML =
        `<table class="measures"><caption>In percent, on ${n.toLocaleString("en")} held-out images of each set</caption>
         <thead><tr><td></td>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>` + (this.small ? "" : confusion);
    }
  }

  const start = () => {
    if (typeof DecompressionStream === "undefined") return; // the static picture stays
    for (const box of document.querySelectorAll(".explorer[data-networks]")) box.odin = new Explorer(box);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
