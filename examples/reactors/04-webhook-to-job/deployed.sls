{#- A job return can hold anything, so ask step by step. -#}
{%- set kwargs = data['return'].get('kwargs', {}) if data.get('fun') == 'test.arg' and data.get('success') else {} %}
{%- if kwargs.get('webhook') == 'deploy' %}
tell_everybody:
  runner.event.send:
    - args:
      - tag: webhook/deployed
      - data: {{ {'minion': data['id'], 'version': kwargs['version']} | tojson }}
{%- endif %}
