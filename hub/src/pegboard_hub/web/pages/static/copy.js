// Gives each field of a server's page a button that copies it. The page does without where this does not run.
"use strict";

const SHOWN_MS = 2000;

for (const field of navigator.clipboard ? document.querySelectorAll(".copied input, .copied textarea") : []) {
  const button = document.createElement("button");
  const word = document.createElement("span");
  const what = document.createElement("span");
  const told = document.createElement("span");
  button.type = "button";
  button.className = "quiet";
  word.textContent = "Copy";
  what.className = told.className = "unseen";
  what.textContent = ` ${field.labels[0].textContent}`;
  told.setAttribute("role", "status");
  button.append(word, what);
  field.after(button, told);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value);
      word.textContent = told.textContent = "Copied";
    } catch {
      field.select();
      word.textContent = told.textContent = "Press Ctrl+C";
    }
    setTimeout(() => {
      word.textContent = "Copy";
      told.textContent = "";
    }, SHOWN_MS);
  });
}
