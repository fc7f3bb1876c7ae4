// Before anything is drawn: the choice of an earlier visit. Without one the system's choice holds (dash.css).
try {
  const chosen = localStorage.getItem('idunno-theme');
  if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;
} catch { /* storage is switched off */
}
