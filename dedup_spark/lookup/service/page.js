"use strict";
const one = (id) => document.getElementById(id);
const made = (tag, text, name) => {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
};
let asked = 0;
let shown = [];

const token = () => one("token").value ? { Authorization: `Bearer ${one("token").value}` } : {};

async function look(file) {
  const number = ++asked;
  one("said").textContent = `Looking for ${file.name} ...`;
  one("found").replaceChildren();
  shown.forEach(URL.revokeObjectURL);
  shown = [];
  const others = one("others").checked ? "?exhaustive=true&others=true" : "";
  let answer;
  try {
    const response = await fetch(`v1/lookup${others}`, {
      method: "POST", body: file, headers: { "Content-Type": "application/octet-stream", ...token() },
    });
    const body = await response.json();
    if (number !== asked) return;
    one("ask-token").hidden = one("ask-token").hidden && response.status !== 401;
    if (!response.ok) { one("said").textContent = body.error; return; }
    answer = body.answers[0];
  } catch (e) {
    if (number === asked) one("said").textContent = `The service does not answer: ${e.message}`;
    return;
  }
  one("said").textContent = inWords(answer);
  for (const found of [...answer.copies, ...answer.others]) one("found").append(article(found, file, number));
}

function inWords(answer) {
  if (answer.outcome === "rejected") return `It cannot be read (${answer.reason}): ${answer.message}`;
  if (answer.outcome === "never_match") return `It is on the negative list. ${answer.reason}`;
  const of = `${(answer.index.n_images + answer.index.n_added).toLocaleString("en")} images`;
  if (answer.outcome === "no_copy") return `No copy of it among ${of}.`;
  const n = answer.copies.length;
  return `A copy of ${n} ${n === 1 ? "image" : "images"} among ${of}.`;
}

function article(found, file, number) {
  const row = document.createElement("article");
  const own = URL.createObjectURL(file);
  shown.push(own);
  row.append(figure(own, "your image"), stored(found.image_id, found.is_keeper ? "the keeper" : "found", number));
  if (found.keeper_image_id && !found.is_keeper) row.append(stored(found.keeper_image_id, "its keeper", number));
  const text = document.createElement("div");
  const edit = found.edit ? ` (${found.edit})` : "";
  text.append(made("strong", found.is_copy ? `${found.relation}${edit}` : "no copy"));
  text.append(made("p", found.member ? `${found.uri}#${found.member}` : found.uri, "uri"), made("p", found.why, "why"));
  row.append(text);
  return row;
}

function figure(url, caption) {
  const element = document.createElement("figure");
  const image = document.createElement("img");
  image.alt = caption;
  if (url) image.src = url;
  element.append(image, made("figcaption", caption));
  return element;
}

function stored(id, caption, number) {
  const element = figure(null, caption);
  if (id) fetch(`v1/images/${id}/thumbnail`, { headers: token() }).then(async (response) => {
    if (!response.ok || number !== asked) return;
    const url = URL.createObjectURL(await response.blob());
    shown.push(url);
    element.querySelector("img").src = url;
  }).catch(() => { element.querySelector("figcaption").textContent = `${caption} (no thumbnail came)`; });
  return element;
}

const drop = one("drop");
one("form").addEventListener("submit", (event) => event.preventDefault());
one("file").addEventListener("change", (event) => event.target.files[0] && look(event.target.files[0]));
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0]); });
