"use strict";

const json = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "[]");
const classes = json("class-list");
const ids = new Map(json("class-colors").map(([red, green, blue], id) => [(red << 16) | (green << 8) | blue, id]));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/* Pixels of a picture whose colours stand for classes. */
const pixelsOf = (image) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
  return (x, y) => {
    const at = 4 * (clamp(Math.floor(y * height), 0, height - 1) * width + clamp(Math.floor(x * width), 0, width - 1));
    return data[at + 3] ? ids.get((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]) : null;
  };
};
const nameOf = (id) => (id === null ? "ignored" : classes[id] ?? "unknown");

for (const shot of document.querySelectorAll(".shot")) {
  const panels = shot.querySelector(".panels");
  const pictures = [...shot.querySelectorAll(".picture")];
  const maps = [...shot.querySelectorAll(".truth, .prediction")];
  const probe = shot.querySelector(".probe");
  let readers, place = [0.5, 0.5];
  const crosses = pictures.map((picture) => {
    const cross = document.createElement("i");
    [cross.className, cross.hidden] = ["cross", true];
    return picture.appendChild(cross);
  });
  const read = async () => {
    readers ??= await Promise.all(maps.map(async (map) => {
      const image = map.querySelector("img");
      await image.decode();
      return [map.querySelector("figcaption").textContent.toLowerCase(), pixelsOf(image)];
    }));
    for (const cross of crosses) {
      cross.hidden = false;
      [cross.style.left, cross.style.top] = place.map((share) => `${100 * share}%`);
    }
    const [truth, ...others] = readers.map(([what, at]) => [what, at(...place)]);
    probe.textContent = [truth, ...others].map(([what, id]) => `${what} ${nameOf(id)}`).join(" · ")
      + (truth[1] !== null && others.some(([, id]) => id !== truth[1]) ? " · wrong" : "");
  };
  const leave = () => {
    for (const cross of crosses) cross.hidden = true;
    probe.textContent = "";
  };
  for (const picture of pictures) {
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      read();
    });
  }
  panels.addEventListener("pointerleave", leave);
  panels.addEventListener("blur", leave);
  panels.addEventListener("keydown", (event) => {
    const step = arrows[event.key];
    if (!step) return;
    event.preventDefault();
    place = place.map((share, axis) => clamp(share + step[axis] / 40, 0, 0.999));
    read();
  });
}

const controls = document.querySelector(".controls");
if (controls) {
  const shots = [...document.querySelectorAll(".shot")];
  const filter = () => {
    const { why, class: only, count } = controls.elements;
    for (const shot of shots) {
      const fits = (list, value) => !value || list.split(" ").includes(value);
      shot.hidden = !(fits(shot.dataset.why, why.value) && fits(shot.dataset.classes, only.value));
    }
    count.value = `${shots.filter((shot) => !shot.hidden).length} of ${shots.length}`;
  };
  controls.hidden = false;
  controls.addEventListener("change", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

/* Only none is 0 %, and only all 100 %. */
const percent = (count, whole) => {
  if (count === 0 || count === whole) return count ? "100 %" : "0 %";
  const value = 100 * count / whole;
  return value < 0.005 ? "< 0.01 %" : value >= 99.995 ? "> 99.99 %" : `${value.toFixed(2)} %`;
};

for (const matrix of document.querySelectorAll(".matrix")) {
  const rows = [...matrix.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  const probe = document.querySelector(".matrix-probe");
  const columnHeads = [...matrix.tHead.rows[0].cells].slice(1);
  const rowHeads = [...matrix.tBodies[0].rows].map((row) => row.cells[0]);
  let current;
  const tell = (row, column) => {
    for (const lit of matrix.querySelectorAll(".lit")) lit.classList.remove("lit");
    columnHeads[column].classList.add("lit");
    rowHeads[row].classList.add("lit");
    const [count, whole] = [Number(rows[row][column].dataset.n ?? 0), Number(rowHeads[row].parentNode.dataset.pixels)];
    const share = whole ? percent(count, whole) : "none";
    probe.textContent = `true ${classes[row] ?? rowHeads[row].textContent} → predicted ${classes[column] ?? columnHeads[column].textContent}: `
      + `${share} (${count.toLocaleString("en")} of ${whole.toLocaleString("en")} pixels)`;
  };
  const enter = (row, column) => {
    current?.setAttribute("tabindex", "-1");
    current = rows[row][column];
    current.tabIndex = 0;
    current.focus();
  };
  rows.forEach((cells, row) => cells.forEach((cell, column) => {
    cell.tabIndex = -1;
    cell.addEventListener("pointerenter", () => tell(row, column));
    cell.addEventListener("focus", () => tell(row, column));
    cell.addEventListener("keydown", (event) => {
      const step = arrows[event.key];
      if (!step) return;
      event.preventDefault();
      enter(clamp(row + step[1], 0, rows.length - 1), clamp(column + step[0], 0, cells.length - 1));
    });
  }));
  if (rows.length) (current = rows[0][0]).tabIndex = 0;
}

for (const table of document.querySelectorAll(".sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.dataset.sort) return;
    const button = document.createElement("button");
    [button.type, button.textContent] = ["button", head.textContent];
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const numbers = head.dataset.sort === "number";
      const order = { ascending: "descending", descending: "ascending" }[head.ariaSort] ?? (numbers ? "descending" : "ascending");
      const key = (row) => (numbers ? Number(row.cells[column].dataset.key) : row.cells[column].textContent);
      const compare = (one, two) => (numbers ? key(one) - key(two) : key(one).localeCompare(key(two)));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.ariaSort = order;
      const rows = [...table.tBodies[0].rows].sort((one, two) => compare(one, two) * (order === "ascending" ? 1 : -1));
      table.tBodies[0].append(...rows);
    });
  });
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
