"use strict";
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const label = head.querySelector("span");
    if (!label) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label.textContent;
    label.replaceWith(button);
    const isNumber = head.classList.contains("number");
    const value = (row) => {
      const cell = row.cells[column];
      const text = cell.dataset.value ?? cell.textContent;
      return isNumber ? parseFloat(text.replace(/[,%]/g, "")) || 0 : text;
    };
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const isDescending = before ? before === "ascending" : isNumber;
      const sign = isDescending ? -1 : 1;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * (isNumber ? value(a) - value(b) : value(a).localeCompare(value(b), "en", { numeric: true })));
      table.tBodies[0].append(...rows);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    });
  });
}
