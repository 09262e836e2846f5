// The page: what is asked, answered, shown and heard.

import { Player, Recorder } from "/static/audio.js";
import { ServerError, dataUrlOf, describeModel, reply, transcribe } from "/static/client.js";
import { VoiceConversation } from "/static/conversation.js";
import { forget, keep, list, save } from "/static/store.js";

const $ = (id) => document.getElementById(id);
const STOCK = "alloy";

let model = null;
let conversation = fresh();
let attached = []; // {kind, blob} that go with the next question
let recorder = null;
let answering = null; // {abort} of the answer that is coming
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
    open.onclick = () => {
      stop();
      conversation = kept;
      showAll();
      $("conversations").open = false;
    };
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

// Asking

async function contentOf({ text, media }) {
  const parts = await Promise.all(
    (media ?? []).map(async ({ kind, blob }) => {
      const url = await dataUrlOf(blob);
      if (kind === "image") return { type: "image_url", image_url: { url } };
      return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format: "wav" } };
    }),
  );
  if (!parts.length) return text;
  return text ? [...parts, { type: "text", text }] : parts;
}

async function ask(text, media) {
  stop();
  tell("");
  const question = { role: "user", text, media };
  const heard = media.filter(({ kind }) => kind === "audio");
  conversation.turns.push(question);
  const shown = show(question);
  if (heard.length && !text && model.omnictl.transcribes) {
    transcribe(heard[0].blob, key()).then((words) => (shown.words.textContent = question.heard = words), () => {});
  }
  await answer();
}

async function answer() {
  const turn = { role: "assistant", text: "" };
  const view = show(turn, { writing: true });
  const speaks = $("speak").checked;
  if (speaks) player ??= new Player();
  const current = (answering = { abort: new AbortController() });
  $("stop").hidden = false;
  const began = performance.now();
  const since = () => `${Math.round(performance.now() - began)} ms`;
  const times = {};
  try {
    let turns = conversation.turns;
    for (;;) {
      const messages = await Promise.all(turns.map(async (said) => ({ role: said.role, content: await contentOf(said) })));
      const request = { messages, temperature: Number($("temperature").value) };
      if (speaks) {
        request.modalities = ["text", "audio"];
        request.audio = { voice: $("voice").value, format: "pcm16", speed: Number($("speed").value), pitch: Number($("pitch").value) };
      }
      try {
        for await (const { text, audio } of reply(request, key(), current.abort.signal)) {
          if (text) {
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
        if (!(error instanceof ServerError) || turns.length < 3 || !error.message.includes("positions")) throw error;
        turns = turns.slice(2); // too long for the model: without the oldest exchange
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
  if (turn.text) conversation.turns.push(turn);
  else {
    view.box.remove();
    conversation.turns.pop();
  }
  await keep(conversation).then(showKept, () => {});
}

function stop() {
  talking?.interrupt();
  answering?.abort.abort();
  player?.stop();
  answering = null;
  $("stop").hidden = true;
}

setInterval(() => {
  if (answering && !player?.playing && !document.querySelector(".writing")) stop();
}, 250);

// The composer

function attach(blob) {
  const kind = blob.type.startsWith("image/") ? "image" : blob.type.startsWith("audio/") ? "audio" : null;
  if (!kind) return tell(`${blob.name ?? "this file"} is neither an image nor a recording.`);
  if (!model?.omnictl.input.includes(kind)) return tell(`This model has never learned from ${kind === "image" ? "images" : "recordings"}.`);
  attached.push({ kind, blob });
  showAttached();
  if (talking && kind === "image") {
    const media = attached;
    attached = [];
    showAttached();
    const shown = { role: "user", text: "", media };
    conversation.turns.push(shown);
    show(shown);
    dataUrlOf(blob).then((url) => talking?.show(url));
  }
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
  if (event.key === "Escape") talking ? talking.interrupt() : stop();
  if (event.altKey && event.code === "KeyR") record();
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

async function record() {
  if (recorder) {
    const blob = await recorder.stop();
    recorder = null;
    recording(false);
    const media = [...attached, { kind: "audio", blob }];
    attached = [];
    showAttached();
    if (model.omnictl.input.includes("audio")) return ask("", media);
    return ask(await transcribe(blob, key()), media.slice(0, -1));
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

async function talk() {
  if (talking) return talking.end();
  stop();
  tell("");
  let view = null; // of the answer that is coming
  let turn = null;
  let spoken = null; // view of what the user is saying
  const asked = new Map(); // turns of the user that may still be written down, by the item
  const finish = () => {
    view?.box.classList.remove("writing");
    if (turn?.text) conversation.turns.push(turn);
    else view?.box.remove();
    view = turn = null;
    keep(conversation).then(showKept, () => {});
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
      conversation.turns.push(question);
      asked.set(item, { question, view: spoken ?? show(question) });
      spoken = null;
    },
    heard: (item, text) => {
      const { question, view: shown } = asked.get(item) ?? {};
      if (question) shown.words.textContent = question.text = text;
    },
    began: () => (view = show((turn = { role: "assistant", text: "" }), { writing: true })),
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
  const history = conversation.turns
    .filter((said) => said.text)
    .map(({ role, text }) => ({ type: "message", role, content: [{ type: role === "user" ? "input_text" : "output_text", text }] }));
  const media = attached.filter(({ kind }) => kind === "image");
  const images = await Promise.all(media.map(({ blob }) => dataUrlOf(blob)));
  attached = [];
  showAttached();
  if (media.length) {
    const shown = { role: "user", text: "", media };
    conversation.turns.push(shown);
    show(shown);
  }
  try {
    player ??= new Player();
    talking = await VoiceConversation.start({ key: key(), player, settings, history, images, on });
    showTalking(true);
  } catch (error) {
    tell(`No conversation by voice: ${error.message}`);
  }
}

function showTalking(on) {
  $("talk").setAttribute("aria-pressed", on);
  $("talk-label").textContent = on ? "End the conversation" : "Talk";
}
$("talk").addEventListener("click", talk);

function recording(on) {
  $("record").setAttribute("aria-pressed", on);
  $("record-label").textContent = on ? "Send what was said" : "Ask aloud";
}
$("record").addEventListener("click", record);

$("camera").addEventListener("click", async () => {
  try {
    $("video").srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    $("viewfinder").showModal();
  } catch (error) {
    tell(`The camera cannot be used: ${error.message}`);
  }
});
$("shoot").addEventListener("click", () => {
  const video = $("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(attach, "image/png");
  $("viewfinder").close();
});
$("close-camera").addEventListener("click", () => $("viewfinder").close());
$("viewfinder").addEventListener("close", () => {
  for (const track of $("video").srcObject?.getTracks() ?? []) track.stop();
});

$("new").addEventListener("click", () => {
  stop();
  conversation = fresh();
  showAll();
  $("conversations").open = false;
  $("text").focus();
});
$("save").addEventListener("click", async () => {
  if (!conversation.turns.length) return tell("There is no conversation to save yet.");
  const { name, blob } = await save(conversation);
  Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name }).click();
});

connect();
showKept().catch(() => {});
