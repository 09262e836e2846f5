// What the server answers: models, and a reply as it is written and said.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const headers = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new ServerError(response.status, body.error?.message ?? `the server answered ${response.status}`);
}

export async function describeModel(key) {
  const response = await fetch("/v1/models", { headers: headers(key) });
  if (!response.ok) throw await refusal(response);
  return (await response.json()).data[0];
}

export async function transcribe(blob, key, signal) {
  const form = new FormData();
  form.append("model", "omnictl");
  form.append("file", blob, "recording.wav");
  const response = await fetch("/v1/audio/transcriptions", { method: "POST", headers: headers(key), body: form, signal });
  if (!response.ok) throw await refusal(response);
  return (await response.json()).text;
}

// What was said and shown, as a message has it.
export async function messageOf({ role, text, media }) {
  const parts = await Promise.all(
    (media ?? []).map(async ({ kind, blob }) => {
      const url = await dataUrlOf(blob);
      if (kind === "image") return { type: "image_url", image_url: { url } };
      return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format: "wav" } };
    }),
  );
  if (!parts.length) return { role, content: text };
  return { role, content: text ? [...parts, { type: "text", text }] : parts };
}

// Yields {text} and {audio: Uint8Array} as they come, and {unsaid} with a reason where speech ends before the text.
export async function* reply(request, key, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers(key) },
    body: JSON.stringify({ model: "omnictl", stream: true, ...request }),
    signal,
  });
  if (!response.ok) throw await refusal(response);
  for await (const event of events(response.body)) {
    if (event.error) throw new ServerError(500, event.error.message);
    const delta = event.choices[0]?.delta ?? {};
    const text = delta.content ?? delta.audio?.transcript;
    if (delta.omnictl?.not_said) yield { unsaid: delta.omnictl.not_said };
    if (text) yield { text };
    if (delta.audio?.data) yield { audio: bytesOf(delta.audio.data) };
  }
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "))?.slice(6);
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

export const dataUrlOf = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
