// What was expected and did not come.

export const failures = [];

export function expect(what, actual, expected) {
  const [found, wanted] = [actual, expected].map((value) => JSON.stringify(value));
  if (found !== wanted) failures.push(`${what}: ${found} instead of ${wanted}`);
}

export async function until(what, condition) {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`never: ${what}`);
}

export const rest = () => new Promise((resolve) => setTimeout(resolve, 30)); // for what must not happen
