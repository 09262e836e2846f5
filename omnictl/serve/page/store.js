// Conversations kept in this browser, and saved as the dialogues that `omnictl sft --data` reads.

const NAME = "omnictl";

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore("conversations", { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function run(mode, action) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const request = action(database.transaction("conversations", mode).objectStore("conversations"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export const keep = (conversation) => run("readwrite", (store) => store.put(conversation));
export const forget = (id) => run("readwrite", (store) => store.delete(id));
export const list = async () => (await run("readonly", (store) => store.getAll())).sort((a, b) => b.id - a.id);

// Questions and answers in turn: what one side says in a row is one of them; what was not answered is left out, and so are
// answers to what nobody knows, which `sft` could learn nothing from.
function exchanges(turns) {
  const result = [];
  for (const turn of turns) {
    const last = result.at(-1);
    if (last?.role === turn.role) {
      last.text = [last.text, turn.text].filter(Boolean).join(" ");
      last.media = [...(last.media ?? []), ...(turn.media ?? [])];
    } else result.push({ ...turn });
  }
  return result.flatMap((turn, number) => {
    const answer = result[number + 1];
    const isKnown = turn.text.trim() || turn.media?.length;
    return turn.role === "user" && isKnown && answer?.text.trim() ? [turn, answer] : [];
  });
}

const ENDINGS = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp", "audio/wav": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/ogg": "ogg" };

// A .jsonl, or a .zip with the .jsonl and the images and recordings that it names; null: there is nothing to save.
export async function save(conversation) {
  const files = [];
  const turns = exchanges(conversation.turns);
  if (!turns.length) return null;
  const messages = turns.map(({ role, text, media }) => {
    if (!media?.length) return { role, content: text };
    const parts = media.map(({ kind, blob }) => {
      const name = `media/${files.length + 1}.${ENDINGS[blob.type.split(";")[0]] ?? "bin"}`;
      files.push({ name, blob });
      return { type: kind, [kind]: name };
    });
    return { role, content: text ? [...parts, { type: "text", text }] : parts };
  });
  const lines = new Blob([JSON.stringify({ messages }) + "\n"], { type: "application/jsonl" });
  if (!files.length) return { name: "conversation.jsonl", blob: lines };
  return { name: "conversation.zip", blob: await zip([{ name: "conversation.jsonl", blob: lines }, ...files]) };
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

// An archive without compression (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16).
async function zip(files) {
  const parts = [];
  const entries = [];
  let offset = 0;
  for (const { name, blob } of files) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const title = new TextEncoder().encode(name);
    const about = [20, 0x0800, 0, 0, 0x21]; // version, UTF-8 names, stored, midnight, 1 January 1980
    const sizes = [crc32(bytes), bytes.length, bytes.length];
    const local = record(0x04034b50, about, sizes, [title.length, 0]);
    parts.push(local, title, bytes);
    entries.push(record(0x02014b50, [20, ...about], sizes, [title.length, 0, 0, 0, 0], [0, offset]), title);
    offset += local.length + title.length + bytes.length;
  }
  const size = entries.reduce((sum, entry) => sum + entry.length, 0);
  const end = record(0x06054b50, [0, 0, files.length, files.length], [size, offset], [0]);
  return new Blob([...parts, ...entries, end], { type: "application/zip" });
}

// A signature, then groups of numbers, of 2 and of 4 bytes in turn.
function record(signature, ...groups) {
  const widths = groups.flatMap((group, i) => group.map(() => (i % 2 ? 4 : 2)));
  const view = new DataView(new ArrayBuffer(4 + widths.reduce((sum, width) => sum + width, 0)));
  view.setUint32(0, signature, true);
  let at = 4;
  groups.flat().forEach((value, i) => {
    if (widths[i] === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += widths[i];
  });
  return new Uint8Array(view.buffer);
}
