// How pictures come in: chosen, dropped, pasted. Folders are walked.

import { byId, show } from "./text.js";

// take([{ file, name }]), say(text)
export function makeIntake(take, say) {
  const input = byId("files");
  byId("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files].map((file) => ({ file, name: file.name })));
    input.value = ""; // so that choosing the same file again counts
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    take(files.map((file) => ({ file, name: file.name || "pasted.png" })));
  });
  listenForDrops(take, say);
}

function listenForDrops(take, say) {
  const cover = byId("dropping");
  let depth = 0; // dragenter and dragleave come for every element in between
  const carries = (event) => ["Files", "text/uri-list"].some((type) => event.dataTransfer?.types.includes(type));
  const cease = () => {
    depth = 0;
    show(cover, false);
  };
  document.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth += 1;
    show(cover, true);
  });
  document.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) cease();
  });
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", async (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    cease();
    const found = await filesOf(event.dataTransfer);
    if (found.length) take(found);
    else say("That was an address or an empty folder, not a file. Save the picture first, then drop the file.");
  });
}

// The entries must be asked for before the first await: afterwards the browser has emptied them.
async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const loose = [...transfer.files].map((file) => ({ file, name: file.name }));
  if (!entries.some((entry) => entry.isDirectory)) return loose;
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.name.startsWith(".") || entry.name === "Thumbs.db") return []; // what systems leave in folders
  if (entry.isFile) {
    const file = await new Promise((good, bad) => entry.file(good, bad));
    return [{ file, name: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const inside = [];
  for (;;) {
    const some = await new Promise((good, bad) => reader.readEntries(good, bad)); // a hundred at a time
    if (!some.length) break;
    inside.push(...some);
  }
  inside.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  return (await Promise.all(inside.map(walk))).flat();
}
