// Dark until the reader chooses otherwise in the menu, and the choice holds on every page. Streamlit keeps it per address
// and begins with the system's; it reads it when a page is loaded, hence one reload at the first visit from a light system.

const CHOSEN = "workbench-theme";
const DARK = '"Dark"'; // as Streamlit writes it
const kept = (path) => `stActiveTheme-${path}-v2`;

function spread(pages, theme) {
  localStorage.setItem(CHOSEN, theme);
  for (const page of ["", ...pages]) localStorage.setItem(kept(`/${page}`), theme);
}

let watch = null;

export default function theme({ data }) {
  const here = () => localStorage.getItem(kept(window.location.pathname));
  const wanted = localStorage.getItem(CHOSEN) ?? DARK;
  const looks = here() === '"System"' && matchMedia("(prefers-color-scheme: dark)").matches ? DARK : here();
  if (watch === null) {
    spread(data.pages, wanted);
    // Once: where storage does not hold, the page stays as it is.
    if (looks !== wanted && !sessionStorage.getItem(CHOSEN)) {
      sessionStorage.setItem(CHOSEN, "reloaded");
      window.location.reload();
    }
    watch = setInterval(() => {
      const now = here();
      if (now && now !== localStorage.getItem(CHOSEN)) spread(data.pages, now);
    }, 400);
  }
}
