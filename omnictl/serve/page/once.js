// Some actions as ones of which none begins before another has ended: a browser may ask for the microphone for long.
export function oneAtATime(...actions) {
  let busy = false;
  return actions.map((action) => async () => {
    if (busy) return;
    busy = true;
    await action().finally(() => (busy = false));
  });
}
