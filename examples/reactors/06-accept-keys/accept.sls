{#- A key waits. Accept it if the minion calls itself web-1 to web-9999; read the README first. #}
{%- if data.get('act') == 'pend' and data.get('id', '') | regex_match('web-[0-9]{1,4}\\Z') is not none %}
accept_web_minion:
  wheel.key.accept:
    - args:
      - match: {{ data['id'] | tojson }}
{%- endif %}
