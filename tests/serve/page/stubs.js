// Stands for the server and the browser: what the page did with them is looked up in `stage`.

const stage = { fetch: window.fetch, chats: [], sockets: [], microphones: [], played: 0, kept: new Map(), refusal: null };
const abilities = { input: ["text", "image", "audio"], output: ["text", "audio"], voices: [], temperature: 0, transcribes: true };
const respond = (body, status = 200) => new Response(JSON.stringify(body), { status });

sessionStorage.setItem("key", "a=/+,(b)");

window.fetch = async (path, { body, signal } = {}) => {
  if (path === "/v1/models") return respond({ data: [{ id: "model", omnictl: abilities }] });
  if (path !== "/v1/chat/completions") return respond({ text: "words" });
  signal.throwIfAborted();
  const chat = { messages: JSON.parse(body).messages };
  stage.chats.push(chat);
  if (stage.refusal) {
    const { message, status } = stage.refusal;
    stage.refusal = null;
    return respond({ error: { message } }, status);
  }
  const stream = new ReadableStream({
    start(controller) {
      const encoder = new TextEncoder();
      chat.say = (delta) => controller.enqueue(encoder.encode(`data: ${JSON.stringify({ choices: [{ delta }] })}\n\n`));
      chat.end = () => controller.close();
      signal.addEventListener("abort", () => controller.error(signal.reason));
    },
  });
  return new Response(stream);
};

window.WebSocket = class {
  static OPEN = 1;

  constructor(address, protocols) {
    Object.assign(this, { protocols, readyState: 1, sent: [] });
    stage.sockets.push(this);
    queueMicrotask(() => this.onopen());
  }

  send(data) {
    this.sent.push(JSON.parse(data));
  }

  close() {
    this.readyState = 3;
    queueMicrotask(() => this.onclose());
  }

  tell(type, event) {
    this.onmessage({ data: JSON.stringify({ type, ...event }) });
  }
};
