// Light or dark: as the system is, until somebody chooses; the choice stays in this browser.
const stillpointChosen = localStorage.getItem("stillpoint-theme");
if (stillpointChosen) document.documentElement.dataset.theme = stillpointChosen;
function stillpointTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("stillpoint-theme", root.dataset.theme);
}
