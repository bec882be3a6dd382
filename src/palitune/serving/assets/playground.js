// The playground: asks /v1/predict for every chosen adapter and draws the answers.
// Texts come from a model and from users, so they are only ever set as textContent or value.

const byId = (id) => document.getElementById(id);
const COLORS = ["#1f6fd6", "#c2550a", "#0b7d67", "#9a3fc4", "#b3263a", "#6f6200"];
const SVG = "http://www.w3.org/2000/svg";

const state = { image: null, answers: [], kept: [], history: [] };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function headers(more = {}) {
  const key = byId("key").value;
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function request(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers(options.headers) });
  if (response.status === 401) byId("key-row").hidden = false;
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error?.message ?? `status ${response.status}`);
  }
  return response;
}

const post = (path, body) =>
  request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });

function say(text) {
  byId("message").textContent = text;
}

// --- the question -------------------------------------------------------------------------------

function readAsDataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function chooseImage(blob) {
  if (!blob) return;
  if (!blob.type.startsWith("image/")) return say(`${blob.name ?? "this"} is no image.`);
  setImage(await readAsDataUri(blob));
}

function setImage(uri) {
  state.image = uri;
  byId("preview").src = uri;
  byId("preview").hidden = false;
  byId("drop-hint").hidden = true;
  byId("ask").disabled = false;
  say("");
}

function connectImageInputs() {
  const drop = byId("drop");
  byId("file").addEventListener("change", (event) => chooseImage(event.target.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") chooseImage(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file) chooseImage(file);
  });
}

async function showChoices() {
  try {
    const models = await (await request("/v1/models")).json();
    const choices = await (await request("/v1/playground")).json();
    byId("adapters").replaceChildren(
      byId("adapters").firstElementChild,
      ...models.data.map((model, number) =>
        element(
          "label",
          {},
          element("input", { type: "checkbox", value: model.id, checked: number === 0 }),
          model.id,
        ),
      ),
    );
    byId("preset").replaceChildren(
      ...choices.presets.map((preset) =>
        element("option", { value: preset.prompt, textContent: preset.task }),
      ),
    );
    byId("prompt").value ||= choices.presets[0]?.prompt ?? "";
    byId("samples").replaceChildren(
      ...choices.samples.map((uri, number) => {
        const label = `Sample image ${number + 1}`;
        const button = element("button", { type: "button", ariaLabel: label });
        button.append(element("img", { src: uri, alt: "" }));
        button.addEventListener("click", () => setImage(uri));
        return button;
      }),
    );
    say("");
  } catch (error) {
    say(error.message);
  }
}

function readQuestion() {
  return {
    image: state.image,
    prompt: byId("prompt").value,
    constrained: byId("constrained").checked,
    num_beams: Number(byId("beams").value),
    masks: "png",
  };
}

async function ask() {
  const adapters = [...byId("adapters").querySelectorAll("input:checked")].map((box) => box.value);
  if (!state.image || !adapters.length) return say("Choose an image and an adapter.");
  const question = readQuestion();
  byId("ask").disabled = true;
  say("");
  const results = await Promise.allSettled(
    adapters.map(async (adapter) => (await post("/v1/predict", { ...question, adapter })).json()),
  );
  byId("ask").disabled = false;
  const failed = results.filter((result) => result.status === "rejected");
  if (failed.length) say(failed[0].reason.message);
  const answers = results.filter((result) => result.status === "fulfilled").map((r) => r.value);
  if (answers.length) {
    remember({ question, answers });
    showAnswers(question, answers);
  }
}

// --- the answers --------------------------------------------------------------------------------

function showAnswers(question, answers) {
  const sameOrder = [...new Set(answers.flatMap((a) => objectsOf(a).map((o) => o.label)))];
  const colors = new Map(sameOrder.map((label, number) => [label, COLORS[number % COLORS.length]]));
  state.answers = answers.map((answer) => ({
    answer,
    question,
    objects: objectsOf(answer).map((object) => ({ ...object })),
    color: (label) => colors.get(label) ?? COLORS[0],
  }));
  byId("empty").hidden = true;
  byId("tools").hidden = false;
  byId("columns").replaceChildren(...state.answers.map(answerColumn));
}

const objectsOf = (answer) =>
  Array.isArray(answer.value) ? answer.value.filter((item) => item && item.box) : [];

function answerColumn(shown) {
  const { answer } = shown;
  const column = element("article", { className: "answer" });
  const milliseconds = Math.round(answer.timings.queue_ms + answer.timings.model_ms);
  const facts = [`${milliseconds} ms`, answer.task];
  if (answer.confidence != null) facts.push(`confidence ${answer.confidence.toFixed(2)}`);
  if (!answer.finished) facts.push("cut off at the token limit");
  column.append(
    element("h2", { textContent: answer.adapter }),
    element("p", { className: "meta", textContent: facts.join(" · ") }),
  );
  if (answer.malformed) {
    column.append(
      element("p", { className: "malformed", textContent: "The answer is no well-formed value." }),
    );
  }
  if (Array.isArray(answer.value)) {
    column.append(picture(shown), objectList(shown));
  } else {
    shown.text = element("textarea", { value: answer.text, ariaLabel: "Answer, editable" });
    column.append(...fieldTable(answer.text), shown.text);
  }
  const keep = element("button", { type: "button", textContent: "Keep with corrections" });
  keep.addEventListener("click", () => keepAnswer(shown, keep));
  const raw = element("details", {}, element("summary", { textContent: "Text of the model" }));
  raw.append(element("code", { textContent: answer.text || "(empty)" }));
  column.append(keep, raw);
  shown.element = column;
  return column;
}

function fieldTable(text) {
  let fields;
  try {
    fields = JSON.parse(text);
  } catch {
    return [];
  }
  if (fields === null || typeof fields !== "object") return [];
  const rows = Object.entries(fields).map(([name, value]) =>
    element(
      "tr",
      {},
      element("th", { textContent: name }),
      element("td", { textContent: typeof value === "object" ? JSON.stringify(value) : value }),
    ),
  );
  return [element("table", {}, element("tbody", {}, ...rows))];
}

function picture(shown) {
  const canvas = element("div", { className: "canvas" });
  const image = element("img", { src: shown.question.image, alt: "Image with drawn objects" });
  const drawing = document.createElementNS(SVG, "svg");
  const [width, height] = shown.answer.size;
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  canvas.append(image, drawing);
  shown.canvas = canvas;
  shown.drawing = drawing;
  drawObjects(shown);
  connectDrawing(shown);
  return element("div", { className: "picture" }, canvas);
}

function isShown(object) {
  return object.score == null || object.score >= Number(byId("threshold").value);
}

function drawObjects(shown) {
  const [width, height] = shown.answer.size;
  shown.drawing.replaceChildren();
  for (const tag of shown.canvas.querySelectorAll(".tag")) tag.remove();
  for (const object of shown.objects.filter(isShown)) {
    const [x0, y0, x1, y1] = object.box;
    const color = shown.color(object.label);
    if (typeof object.mask === "string") {
      const mask = document.createElementNS(SVG, "image");
      mask.setAttribute("href", tinted(object, color));
      mask.setAttribute("width", width);
      mask.setAttribute("height", height);
      shown.drawing.append(mask);
    }
    const box = document.createElementNS(SVG, "rect");
    const place = { x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) };
    for (const [name, value] of Object.entries(place)) box.setAttribute(name, value);
    box.style.setProperty("--color", color);
    box.classList.toggle("active", object === shown.active);
    box.addEventListener("pointerenter", () => activate(shown, object));
    box.addEventListener("pointerleave", () => activate(shown, null));
    object.shape = box;
    const score = object.score == null ? "" : ` ${object.score.toFixed(2)}`;
    const tag = element("span", { className: "tag", textContent: `${object.label}${score}` });
    tag.style.setProperty("--color", color);
    tag.style.left = `${(100 * x0) / width}%`;
    tag.style.top = `${Math.max((100 * y0) / height, 4)}%`;
    shown.drawing.append(box);
    shown.canvas.append(tag);
  }
}

// A mask is a white PNG on black; it is drawn in the color of its object, transparent elsewhere.
function tinted(object, color) {
  if (object.tinted) return object.tinted;
  const image = new Image();
  image.onload = () => {
    const canvas = element("canvas", { width: image.width, height: image.height });
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    for (let at = 0; at < pixels.data.length; at += 4) {
      const inside = pixels.data[at] > 127;
      pixels.data.set([red, green, blue, inside ? 255 : 0], at);
    }
    context.putImageData(pixels, 0, 0);
    object.tinted = canvas.toDataURL();
    for (const shown of state.answers) {
      if (shown.objects.includes(object)) drawObjects(shown);
    }
  };
  image.src = object.mask;
  return "";
}

function activate(shown, object) {
  shown.active = object;
  for (const each of shown.objects) {
    each.shape?.classList.toggle("active", each === object);
  }
}

// A new box is drawn by dragging on the image.
function connectDrawing(shown) {
  const { canvas, drawing } = shown;
  let start = null;
  const position = (event) => {
    const area = drawing.getBoundingClientRect();
    const [width, height] = shown.answer.size;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    return [
      clamp(((event.clientX - area.left) / area.width) * width, width),
      clamp(((event.clientY - area.top) / area.height) * height, height),
    ];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") start = position(event);
  });
  canvas.addEventListener("dragstart", (event) => event.preventDefault());
  canvas.addEventListener("pointerup", (event) => {
    if (!start) return;
    const end = position(event);
    const box = [0, 1].map((axis) => Math.min(start[axis], end[axis]));
    box.push(...[0, 1].map((axis) => Math.max(start[axis], end[axis])));
    start = null;
    if (box[2] - box[0] < 2 || box[3] - box[1] < 2) return;
    const label = shown.objects[0]?.label ?? "object";
    shown.objects.push({ label, box, score: null });
    refresh(shown);
  });
}

function objectList(shown) {
  shown.list = element("ul", { className: "objects" });
  fillObjectList(shown);
  return shown.list;
}

function fillObjectList(shown) {
  if (!shown.objects.length) {
    const hint = "No objects. Drag on the image to draw one.";
    shown.list.replaceChildren(element("li", { className: "meta", textContent: hint }));
    return;
  }
  shown.list.replaceChildren(
    ...shown.objects.map((object) => {
      const row = element("li", { className: isShown(object) ? "" : "below" });
      row.style.setProperty("--color", shown.color(object.label));
      const name = element("input", { type: "text", value: object.label, ariaLabel: "Label" });
      name.addEventListener("change", () => {
        object.label = name.value;
        refresh(shown);
      });
      const score = object.score == null ? "drawn" : object.score.toFixed(2);
      const remove = element("button", { type: "button", textContent: "×" });
      remove.ariaLabel = `Remove ${object.label}`;
      remove.addEventListener("click", () => {
        shown.objects = shown.objects.filter((each) => each !== object);
        refresh(shown);
      });
      row.addEventListener("pointerenter", () => activate(shown, object));
      row.addEventListener("pointerleave", () => activate(shown, null));
      name.addEventListener("focus", () => activate(shown, object));
      const swatch = element("span", { className: "swatch" });
      row.append(swatch, name, element("span", { textContent: score }), remove);
      return row;
    }),
  );
}

function refresh(shown) {
  if (!shown.drawing) return;
  drawObjects(shown);
  fillObjectList(shown);
}

// --- kept answers, history, copies --------------------------------------------------------------

function keepAnswer(shown, button) {
  const item = { image: shown.question.image, prompt: shown.question.prompt };
  if (shown.drawing) {
    item.instances = shown.objects.filter(isShown).map(({ label, box }) => ({ label, box }));
  } else {
    item.text = shown.text.value;
  }
  state.kept.push(item);
  button.textContent = "Kept";
  button.disabled = true;
  byId("download").disabled = false;
  byId("download").textContent = `Download kept answers (${state.kept.length})`;
}

async function download() {
  try {
    const response = await post("/v1/dataset", { items: state.kept });
    const link = element("a", { href: URL.createObjectURL(await response.blob()) });
    link.download = "kept.zip";
    link.click();
    URL.revokeObjectURL(link.href);
  } catch (error) {
    say(error.message);
  }
}

function remember(entry) {
  state.history.unshift(entry);
  state.history.length = Math.min(state.history.length, 20);
  byId("history").hidden = false;
  byId("history").querySelector("ol").replaceChildren(
    ...state.history.map(({ question, answers }) => {
      const button = element("button", { type: "button" });
      button.append(element("img", { src: question.image, alt: "" }), question.prompt);
      button.addEventListener("click", () => {
        setImage(question.image);
        byId("prompt").value = question.prompt;
        showAnswers(question, answers);
      });
      return element("li", {}, button);
    }),
  );
}

function codeFor(language) {
  const { question, answer } = state.answers[0];
  const url = `${location.origin}/v1/predict`;
  if (language === "curl") {
    const quoted = `'${question.prompt.replaceAll("'", "'\\''")}'`;
    const key = byId("key").value ? ` -H "Authorization: Bearer $PALITUNE_KEY"` : "";
    return `curl ${url}${key} -F image=@image.png -F prompt=${quoted} -F adapter=${answer.adapter}`;
  }
  const key = byId("key").value ? "os.environ['PALITUNE_KEY']" : '"none"';
  return [
    "import base64, os",
    "from openai import OpenAI",
    "",
    'image = base64.b64encode(open("image.png", "rb").read()).decode()',
    `client = OpenAI(base_url="${location.origin}/v1", api_key=${key})`,
    "content = [",
    '    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},',
    `    {"type": "text", "text": ${JSON.stringify(question.prompt)}},`,
    "]",
    `answer = client.chat.completions.create(model=${JSON.stringify(answer.adapter)},`,
    '    messages=[{"role": "user", "content": content}])',
    "print(answer.choices[0].message.content)",
  ].join("\n");
}

async function copy(language, button) {
  await navigator.clipboard.writeText(codeFor(language));
  const text = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = text), 1200);
}

// --- start --------------------------------------------------------------------------------------

connectImageInputs();
byId("preset").addEventListener("change", (event) => (byId("prompt").value = event.target.value));
byId("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
byId("threshold").addEventListener("input", (event) => {
  byId("threshold-value").textContent = Number(event.target.value).toFixed(2);
  state.answers.forEach(refresh);
});
byId("zoom").addEventListener("input", (event) => {
  byId("columns").style.setProperty("--zoom", event.target.value);
});
byId("download").addEventListener("click", download);
byId("copy-curl").addEventListener("click", (event) => copy("curl", event.target));
byId("copy-python").addEventListener("click", (event) => copy("python", event.target));
byId("key").value = sessionStorage.getItem("key") ?? "";
byId("key").addEventListener("change", () => {
  sessionStorage.setItem("key", byId("key").value);
  showChoices();
});
showChoices();
