// In place of the page's own: conversations are kept in `stage`.

export const keep = async (conversation) => void stage.kept.set(conversation.id, structuredClone(conversation));
export const forget = async (id) => void stage.kept.delete(id);
export const list = async () => [...stage.kept.values()].sort((a, b) => b.id - a.id).map((kept) => structuredClone(kept));
export const save = async () => {};
