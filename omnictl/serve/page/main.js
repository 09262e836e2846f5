// The page: what is asked, answered, shown and heard.

import { Player, Recorder } from "/static/audio.js";
import { offerCamera } from "/static/camera.js";
import { ServerError, describeModel, messageOf, reply, transcribe } from "/static/client.js";
import { VoiceConversation, itemOf } from "/static/conversation.js";
import { oneAtATime } from "/static/once.js";
import { forget, keep, list, save } from "/static/store.js";

const $ = (id) => document.getElementById(id);
const STOCK = "alloy";
const RECENT = 64; // turns before a question that the model is told of

let model = null;
let conversation = fresh();
let attached = []; // {kind, blob} that go with the next question
let recorder = null;
let answering = null; // {abort, ended} of the answer that is coming
let player = null; // made at the first question: before, a page may not play anything
let talking = null; // the conversation by voice, while there is one

function fresh() {
  return { id: Date.now(), turns: [] };
}

// Settings

const key = () => sessionStorage.getItem("key") ?? "";

for (const id of ["speed", "pitch", "temperature"]) {
  $(id).addEventListener("input", () => ($(`${id}-value`).textContent = $(id).value));
}
$("key-row").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("change", () => {
  sessionStorage.setItem("key", $("key").value);
  connect();
});

async function connect() {
  try {
    model = await describeModel(key());
  } catch (error) {
    $("model").textContent = "not connected";
    if (error.status === 401) {
      $("key-row").hidden = false;
      $("settings").open = true;
      tell(key() ? "The API key is wrong." : "This server wants an API key.");
    } else tell(error.message);
    return;
  }
  tell("");
  const { input, output, voices, temperature, transcribes } = model.omnictl;
  $("model").textContent = model.id;
  $("voice").replaceChildren(...(voices.length ? voices : [STOCK]).map((name) => new Option(name === STOCK ? "the only one" : name, name)));
  $("temperature").value = temperature;
  $("temperature-value").textContent = temperature;
  $("speak").disabled = !output.includes("audio");
  if ($("speak").disabled) $("speak").checked = false;
  $("record").hidden = !input.includes("audio") && !transcribes;
  $("talk").hidden = !input.includes("audio");
  $("add-label").hidden = input.length === 1;
  $("camera").hidden = !input.includes("image") || !navigator.mediaDevices;
}

function tell(problem) {
  $("problem").textContent = problem;
}

// What was said

function show(turn, { writing = false } = {}) {
  const box = document.createElement("article");
  box.className = `turn ${turn.role}${writing ? " writing" : ""}`;
  box.setAttribute("aria-label", turn.role === "user" ? "You" : "Answer");
  for (const { kind, blob } of turn.media ?? []) {
    const element = document.createElement(kind === "image" ? "img" : "audio");
    element.src = URL.createObjectURL(blob);
    if (kind === "image") element.alt = "the image that you showed";
    else element.controls = true;
    box.append(element);
  }
  const words = document.createElement("span");
  words.textContent = turn.text;
  const times = document.createElement("small");
  times.className = "times";
  times.textContent = turn.times ?? "";
  box.append(words, times);
  $("log").append(box);
  box.scrollIntoView({ block: "end" });
  return { box, words, times };
}

function showAll() {
  $("log").replaceChildren();
  for (const turn of conversation.turns) show(turn);
}

async function showKept() {
  const items = (await list()).map((kept) => {
    const item = document.createElement("li");
    const title = kept.turns.find((turn) => turn.text)?.text ?? "spoken";
    const open = Object.assign(document.createElement("button"), { type: "button", textContent: title });
    open.onclick = () => change(kept);
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Delete", ariaLabel: `Delete: ${title}` });
    remove.onclick = async () => {
      await forget(kept.id);
      await showKept();
    };
    item.append(open, remove);
    return item;
  });
  $("kept").replaceChildren(...items);
}

// Show another conversation; nothing of this one goes on.
async function change(to) {
  const before = answering?.ended;
  stop();
  await talking?.end();
  await before;
  if (to.id !== conversation.id) conversation = to;
  showAll();
  $("conversations").open = false;
}

// Asking

function ask(text, media) {
  const before = answering?.ended;
  stop();
  tell("");
  const into = conversation;
  const question = { role: "user", text, media };
  const heard = media.filter(({ kind }) => kind === "audio");
  into.turns.push(question);
  const shown = show(question);
  if (heard.length && !text && model.omnictl.transcribes) {
    transcribe(heard[0].blob, key()).then((words) => (shown.words.textContent = question.heard = words), () => {});
  }
  if (talking) {
    itemOf(question).then((item) => talking?.ask(item), (error) => tell(error.message));
    return;
  }
  const current = (answering = { abort: new AbortController() });
  current.ended = answer(into, question, current, before);
}

const isTooMuch = (error) => error instanceof ServerError && (error.status === 413 || /positions|at most/.test(error.message));

// Answer a question of a conversation, after `before`; whatever is shown meanwhile, the answer stands behind its question.
async function answer(into, question, current, before) {
  const turn = { role: "assistant", text: "" };
  const view = show(turn, { writing: true });
  const speaks = $("speak").checked;
  if (speaks) player ??= new Player();
  $("stop").hidden = false;
  const began = performance.now();
  const since = () => `${Math.round(performance.now() - began)} ms`;
  const times = {};
  try {
    await before;
    let turns = [...into.turns.slice(0, into.turns.indexOf(question)).slice(-RECENT), question];
    for (;;) {
      const request = { messages: await Promise.all(turns.map(messageOf)), temperature: Number($("temperature").value) };
      if (speaks) {
        request.modalities = ["text", "audio"];
        request.audio = { voice: $("voice").value, format: "pcm16", speed: Number($("speed").value), pitch: Number($("pitch").value) };
      }
      try {
        for await (const { text, audio, unsaid } of reply(request, key(), current.abort.signal)) {
          if (unsaid) tell(`The rest of the answer is not said: ${unsaid}.`);
          else if (text) {
            times["first word"] ??= since();
            view.words.textContent = turn.text += text;
          } else {
            times["first audio"] ??= since();
            player.play(audio);
          }
          view.box.scrollIntoView({ block: "end" });
        }
        break;
      } catch (error) {
        if (!isTooMuch(error) || turns.length < 3) throw error;
        turns = turns.slice(2); // without the oldest exchange
        times["without the oldest turns"] = "";
      }
    }
    times["whole answer"] = since();
  } catch (error) {
    if (error.name !== "AbortError") tell(error.message);
    view.box.classList.add("stopped");
  }
  view.box.classList.remove("writing");
  turn.times = view.times.textContent = Object.entries(times).map((pair) => pair.join(" ").trim()).join(" · ");
  if (answering === current && !player?.playing) $("stop").hidden = true;
  if (turn.text) into.turns.splice(into.turns.indexOf(question) + 1, 0, turn);
  else {
    view.box.remove();
    into.turns.splice(into.turns.indexOf(question), 1);
  }
  await keepTurns(into);
}

async function keepTurns(said) {
  if (said.turns.length) await keep(said).then(showKept).catch(() => {}); // a browser may keep nothing
}

function stop() {
  talking?.interrupt();
  answering?.abort.abort();
  player?.stop();
  answering = null;
  $("stop").hidden = true;
}

setInterval(() => {
  if (!$("stop").hidden && !player?.playing && !document.querySelector(".writing")) stop();
}, 250);

// The composer

function attach(blob) {
  const kind = blob.type.startsWith("image/") ? "image" : blob.type.startsWith("audio/") ? "audio" : null;
  if (!kind) return tell(`${blob.name ?? "this file"} is neither an image nor a recording.`);
  if (!model?.omnictl.input.includes(kind)) return tell(`This model has never learned from ${kind === "image" ? "images" : "recordings"}.`);
  if (talking && kind === "image") return itemOf(shareImages([{ kind, blob }])).then((item) => talking?.add(item));
  attached.push({ kind, blob });
  showAttached();
}

// Images as a turn of their own: what is asked about them is said next.
function shareImages(media) {
  const turn = { role: "user", text: "", media };
  conversation.turns.push(turn);
  show(turn);
  return turn;
}

function showAttached() {
  const items = attached.map(({ kind, blob }, number) => {
    const item = document.createElement("li");
    if (kind === "image") item.append(Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: `image ${number + 1}` }));
    const remove = Object.assign(document.createElement("button"), { type: "button", textContent: `Remove ${kind === "image" ? "the image" : blob.name ?? "the recording"}` });
    remove.onclick = () => {
      attached.splice(number, 1);
      showAttached();
    };
    item.append(remove);
    return item;
  });
  $("attached").replaceChildren(...items);
}

function send() {
  const text = $("text").value.trim();
  if (!text && !attached.some(({ kind }) => kind === "audio")) return tell(attached.length ? "An image alone asks nothing: write or say a question." : "");
  const media = attached;
  attached = [];
  $("text").value = "";
  showAttached();
  ask(text, media);
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
});
$("text").addEventListener("input", ({ target }) => {
  target.style.height = "auto";
  target.style.height = `${target.scrollHeight + 2}px`;
});
$("file").addEventListener("change", ({ target }) => {
  for (const file of target.files) attach(file);
  target.value = "";
});
$("stop").addEventListener("click", stop);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
  if (event.altKey && event.code === "KeyR") $("record").click();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  for (const file of event.dataTransfer.files) attach(file);
});
document.addEventListener("paste", (event) => {
  for (const file of event.clipboardData.files) attach(file);
});

async function stopRecording() {
  const blob = await recorder.stop();
  recorder = null;
  recording(false);
  return { kind: "audio", blob };
}

async function askAloud() {
  if (recorder) {
    const said = await stopRecording();
    const media = [...attached, said];
    attached = [];
    showAttached();
    if (model.omnictl.input.includes("audio")) ask("", media);
    else transcribe(said.blob, key()).then((words) => ask(words, media.slice(0, -1)), (error) => tell(error.message));
    return;
  }
  stop();
  try {
    recorder = await Recorder.start();
    recording(true);
  } catch (error) {
    tell(`The microphone cannot be used: ${error.message}`);
  }
}

// Talking: turns end by themselves, and speaking interrupts the answer

async function converse() {
  if (talking) return talking.end();
  if (recorder) attached.push(await stopRecording());
  const before = answering?.ended;
  stop();
  await before;
  tell("");
  const into = conversation;
  let view = null; // of the answer that is coming
  let turn = null;
  let spoken = null; // view of what the user is saying
  const asked = new Map(); // turns of the user that may still be written down, by the item
  const finish = () => {
    view?.box.classList.remove("writing");
    if (turn?.text) into.turns.push(turn);
    else view?.box.remove();
    view = turn = null;
    keepTurns(into);
  };
  const on = {
    hearing: (words) => {
      spoken ??= show({ role: "user", text: "" });
      spoken.words.textContent += words;
    },
    misheard: () => {
      spoken?.box.remove();
      spoken = null;
    },
    asked: (item) => {
      const question = { role: "user", text: "" };
      into.turns.push(question);
      asked.set(item, { question, view: spoken ?? show(question) });
      spoken = null;
    },
    heard: (item, text) => {
      const { question, view: shown } = asked.get(item) ?? {};
      if (question) shown.words.textContent = question.text = text;
    },
    began: () => {
      view = show((turn = { role: "assistant", text: "" }), { writing: true });
      $("stop").hidden = false;
    },
    text: (delta) => {
      if (turn) view.words.textContent = turn.text += delta;
      view?.box.scrollIntoView({ block: "end" });
    },
    done: (times) => {
      if (turn) turn.times = view.times.textContent = Object.entries(times).map((pair) => pair.join(" ")).join(" · ");
      finish();
    },
    stopped: () => {
      const last = view?.box ?? [...document.querySelectorAll(".turn.assistant")].at(-1);
      last?.classList.add("stopped");
      finish();
    },
    problem: tell,
    closed: () => {
      on.misheard();
      finish();
      talking = null;
      showTalking(false);
    },
  };
  const settings = {
    type: "realtime",
    output_modalities: [$("speak").checked ? "audio" : "text"],
    temperature: Number($("temperature").value),
    audio: { output: { voice: $("voice").value, speed: Number($("speed").value), pitch: Number($("pitch").value) } },
  };
  const images = attached.filter(({ kind }) => kind === "image");
  attached = attached.filter(({ kind }) => kind !== "image");
  showAttached();
  if (images.length) shareImages(images);
  try {
    player ??= new Player();
    const history = (await Promise.all(into.turns.slice(-RECENT).map(itemOf))).filter(({ content }) => content.length);
    talking = await VoiceConversation.start({ key: key(), player, settings, history, on });
    if (conversation !== into) return talking.end();
    showTalking(true);
  } catch (error) {
    tell(`No conversation by voice: ${error.message}`);
  }
}

function showTalking(on) {
  $("talk").setAttribute("aria-pressed", on);
  $("talk-label").textContent = on ? "End the conversation" : "Talk";
  $("record").disabled = on;
}

function recording(on) {
  $("record").setAttribute("aria-pressed", on);
  $("record-label").textContent = on ? "Send what was said" : "Ask aloud";
}

const [record, talk] = oneAtATime(askAloud, converse);
$("record").addEventListener("click", record);
$("talk").addEventListener("click", talk);

offerCamera(attach, tell);

$("new").addEventListener("click", async () => {
  await change(fresh());
  $("text").focus();
});
$("save").addEventListener("click", async () => {
  const saved = await save(conversation);
  if (!saved) return tell("There is no conversation to save yet.");
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(saved.blob), download: saved.name }).click();
});

connect();
showKept().catch(() => {});
